import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner, Result
from google.protobuf.timestamp_pb2 import Timestamp

from mnist_client import Client, Dataset
from mnist_client.cli import program
from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.parameters import Settings
from mnist_client.cli.watching import come_back
from mnist_proto.v1 import training_pb2 as pb

CLIENT = str(Path(sys.executable).with_name("mnist-client"))
JOB = "jobs/job-a"
LONG = 100_000  # epochs: as long as a test needs
SECONDS = 60.0


def run(*words: str) -> Result:
    return CliRunner().invoke(program, words)


def event(sequence: int, **what: Any) -> pb.WatchTrainingResponse:
    time = Timestamp(seconds=1_700_000_000 + sequence)
    return pb.WatchTrainingResponse(event=pb.TrainingEvent(job=JOB, sequence=sequence, time=time, **what))


CONFIG = pb.ResolvedConfig(
    config=pb.TrainingConfig(model="models/job-a", epochs=2, batch_size=10, learning_rate=3.0, seed=5),
    layer_sizes=[784, 30, 10],
    train_images=100,
)
ACCEPTED = event(1, accepted=pb.Accepted(config=CONFIG))
STARTED = event(2, started=pb.Started())
UNTESTED = event(
    3, epoch_finished=pb.EpochFinished(epoch=0, loss=float("nan"), seconds=0.5, weights_hash="ab")
)
FAILED = event(4, failed=pb.Failed(reason="the disk is full"))
CANCELLED = event(4, cancelled=pb.Cancelled())
SUCCEEDED = event(
    4,
    succeeded=pb.Succeeded(
        model_version="models/job-a/versions/1", stop_reason=pb.STOP_REASON_EARLY_STOPPING
    ),
)


def history(*messages: pb.WatchTrainingResponse) -> Callable[..., Iterator[pb.WatchTrainingResponse]]:
    """A WatchTraining that says these, as far as they come after what was asked for."""

    def watch(
        request: pb.WatchTrainingRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchTrainingResponse]:
        for message in messages:
            if message.WhichOneof("message") == "notice" or message.event.sequence > request.after_sequence:
                yield message

    return watch


def test_off_a_terminal_it_is_a_line_an_epoch(server: str, digits: Dataset) -> None:
    with Client(server) as client:
        job = client.train(digits, epochs=3, seed=1)
    result = run("jobs", "watch", job.name, "--server", server)
    assert result.exit_code == ExitCode.DONE
    lines = result.stdout.splitlines()
    assert [line.rpartition(":")[0] for line in lines] == ["Epoch 0 ", "Epoch 1 ", "Epoch 2 "]
    assert all(line.endswith(" / 1000") for line in lines)
    first, *_, last = result.stderr.splitlines()
    assert first.startswith(f"{job.name}: 784-30-10 sigmoid")
    assert "seed 1" in first
    assert last == f"Made models/{job.name.removeprefix('jobs/')}/versions/1"


def test_jsonl_is_an_object_an_event(server: str, digits: Dataset) -> None:
    with Client(server) as client:
        job = client.train(digits, epochs=2, seed=1)
        events = list(job.watch())
    result = run("jobs", "watch", job.name, "--server", server, "-o", "jsonl")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["sequence"] for record in records] == [1, 2, 3, 4, 5]
    assert {record["job"] for record in records} == {job.name}
    assert [record["event"] for record in records] == [
        "accepted",
        "started",
        "epoch_finished",
        "epoch_finished",
        "succeeded",
    ]
    assert records[0]["config"]["hyperparameters"]["seed"] == 1
    for record, epoch in zip(records[2:4], events[2:4], strict=True):
        for field in ("epoch", "correct", "total", "loss", "seconds", "weights_hash"):
            assert record[field] == getattr(epoch, field)
    assert records[4]["stop_reason"] == "epochs"
    after = run("jobs", "watch", job.name, "--server", server, "-o", "jsonl", "--after", "3")
    assert after.stdout.splitlines() == result.stdout.splitlines()[3:]


def test_csv_is_a_row_an_epoch(server: str, digits: Dataset) -> None:
    with Client(server) as client:
        job = client.train(digits, epochs=2, seed=1)
    result = run("jobs", "watch", job.name, "--server", server, "-o", "csv")
    header, *rows = result.stdout.splitlines()
    lines = run("jobs", "watch", job.name, "--server", server, "-o", "jsonl").stdout.splitlines()
    assert sorted(header.split(",")) == sorted(json.loads(lines[2]))
    assert header.startswith("sequence,job,event,time,epoch,correct,total,loss,")
    assert [row.split(",")[4] for row in rows] == ["0", "1"]


def test_json_is_the_job_with_its_epochs(server: str, digits: Dataset) -> None:
    with Client(server) as client:
        job = client.train(digits, epochs=2, seed=1)
    result = run("jobs", "watch", job.name, "--server", server, "-o", "json")
    record = json.loads(result.stdout)
    assert record["name"] == job.name
    assert record["state"] == "SUCCEEDED"
    assert [epoch["epoch"] for epoch in record["epochs"]] == [0, 1]
    assert "Epoch 1 : " in result.stderr
    shown = json.loads(run("jobs", "show", job.name, "--server", server, "-o", "json").stdout)
    assert shown == {key: value for key, value in record.items() if key != "epochs"}


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (FAILED, ExitCode.UNEXPECTED, "Error: jobs/job-a failed: the disk is full"),
        (CANCELLED, ExitCode.CONDITION, "jobs/job-a was cancelled; it made no model."),
        (SUCCEEDED, ExitCode.DONE, "Made models/job-a/versions/1 (stopped early: no improvement)"),
    ],
)
@pytest.mark.parametrize("output", ["table", "jsonl", "csv"])
def test_each_end_has_its_exit_code(
    serve: Callable[..., str], end: pb.WatchTrainingResponse, code: ExitCode, said: str, output: str
) -> None:
    address = serve(WatchTraining=history(ACCEPTED, STARTED, UNTESTED, end))
    result = run("jobs", "watch", JOB, "--server", address, "-o", output)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == said


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (pb.JOB_STATE_SUCCEEDED, ExitCode.DONE),
        (pb.JOB_STATE_FAILED, ExitCode.UNEXPECTED),
        (pb.JOB_STATE_CANCELLED, ExitCode.CONDITION),
    ],
)
def test_an_end_before_the_watch_counts_too(
    serve: Callable[..., str], state: pb.JobState.ValueType, code: ExitCode
) -> None:
    job = pb.TrainingJob(name=JOB, state=state, config=CONFIG, reason="why")
    address = serve(
        WatchTraining=history(ACCEPTED, FAILED),
        GetTrainingJob=lambda request, context: pb.GetTrainingJobResponse(job=job),
    )
    assert run("jobs", "watch", JOB, "--server", address, "--after", "4").exit_code == code


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (pb.STOP_REASON_EPOCHS, "Made models/job-a/versions/1"),
        (
            pb.STOP_REASON_TIME_BUDGET,
            "Made models/job-a/versions/1 (stopped early: the time budget is used up)",
        ),
        (
            pb.STOP_REASON_TARGET_ACCURACY,
            "Made models/job-a/versions/1 (stopped early: it is as accurate as it was to be)",
        ),
    ],
)
def test_why_it_stopped_and_what_it_kept_is_said(
    serve: Callable[..., str], reason: pb.StopReason.ValueType, said: str
) -> None:
    made = {"model_version": "models/job-a/versions/1", "stop_reason": reason}
    later = event(4, epoch_finished=pb.EpochFinished(epoch=1, weights_hash="cd"))
    for epoch, lines in ((1, [said]), (0, [said, "It is of epoch 0, the best on the validation images"])):
        end = event(5, succeeded=pb.Succeeded(epoch=epoch, **made))  # type: ignore[arg-type]  # as it takes them
        address = serve(WatchTraining=history(ACCEPTED, STARTED, UNTESTED, later, end))
        result = run("jobs", "watch", JOB, "--server", address)
        assert result.exit_code == ExitCode.DONE
        assert result.stderr.splitlines()[-len(lines) :] == lines


def test_without_a_test_an_epoch_is_complete(serve: Callable[..., str]) -> None:
    address = serve(WatchTraining=history(ACCEPTED, STARTED, UNTESTED, CANCELLED))
    assert run("jobs", "watch", JOB, "--server", address).stdout == "Epoch 0 complete\n"
    lines = run("jobs", "watch", JOB, "--server", address, "-o", "jsonl").stdout.splitlines()
    record = json.loads(lines[2])
    assert record["correct"] is None
    assert record["total"] is None
    assert record["loss"] is None  # JSON has no NaN


def test_what_interrupts_a_watch_is_said(serve: Callable[..., str]) -> None:
    draining = pb.WatchTrainingResponse(notice=pb.TrainingNotice(job=JOB, sequence=2, draining=pb.Draining()))
    skipped = ["checkpoint-000009.safetensors: it is torn"]
    continued = pb.Continued(epoch=7, skipped_checkpoints=skipped, differences=["numpy_version was 1, is 2"])
    rest = (event(3, continued=continued), CANCELLED)
    streams = iter((history(ACCEPTED, STARTED, draining), history(*rest), history(*rest)))
    address = serve(WatchTraining=lambda request, context: next(streams)(request, context))
    result = run("jobs", "watch", JOB, "--server", address)
    assert "The server is stopping" in result.stderr
    assert result.stderr.splitlines()[-4:-1] == [
        "Skipped a checkpoint: checkpoint-000009.safetensors: it is torn",
        "Not to the same bits: numpy_version was 1, is 2",
        "Continued from epoch 7",
    ]
    assert result.exit_code == ExitCode.CONDITION


def test_a_pause_is_said_and_how_to_go_on(serve: Callable[..., str]) -> None:
    pauses = [
        event(3, paused=pb.Paused()),
        event(4, resumed=pb.Resumed()),
        event(5, paused=pb.Paused(reason="numpy_version was 1, is 2")),
    ]
    address = serve(WatchTraining=history(ACCEPTED, STARTED, *pauses, event(6, cancelled=pb.Cancelled())))
    result = run("jobs", "watch", JOB, "--server", address)
    assert result.stderr.splitlines()[1:-1] == [
        "Paused",
        f"Have it go on with: mnist-client jobs resume {JOB}",
        "Resumed; it waits for its turn",
        "Paused: numpy_version was 1, is 2",
        f"Have it go on with: mnist-client jobs resume {JOB}",
    ]
    lines = run("jobs", "watch", JOB, "--server", address, "-o", "jsonl").stdout.splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["event"] for record in records[2:5]] == ["paused", "resumed", "paused"]
    assert records[4]["reason"] == "numpy_version was 1, is 2"


def test_a_watch_that_fails_says_how_to_come_back(serve: Callable[..., str]) -> None:
    def watch(request: object, context: grpc.ServicerContext) -> Iterator[pb.WatchTrainingResponse]:
        yield ACCEPTED
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no longer yours")

    address = serve(WatchTraining=watch)
    result = run("jobs", "watch", JOB, "--server", address)
    assert result.exit_code == ExitCode.NOT_ALLOWED
    assert f"mnist-client jobs watch {JOB} --server {address}" in result.stderr
    assert "Error: no longer yours" in result.stderr


def test_the_way_back_names_a_server_that_the_environment_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_SERVER", "a:1")
    assert "--server" not in come_back(JOB, Settings(server="a:1"))
    assert f"jobs watch {JOB} --server b:1\n" in come_back(JOB, Settings(server="b:1"))
    monkeypatch.delenv("MNIST_SERVER")
    assert "--server" not in come_back(JOB, Settings())


@pytest.fixture
def long_job(server: str, digits: Dataset) -> Iterator[str]:
    """The name of a job that goes on until it is cancelled."""
    with Client(server) as client:
        job = client.train(digits, epochs=LONG, seed=1)
        yield job.name
        job.cancel()


def test_ctrl_c_leaves_the_job_and_says_how_to_come_back(server: str, long_job: str) -> None:
    with subprocess.Popen(
        [CLIENT, "jobs", "watch", long_job, "--server", server],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Epoch 0 : ")  # flushed line by line, in a pipe too
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.INTERRUPTED
    assert f"mnist-client jobs watch {long_job}" in messages
    assert f"mnist-client jobs cancel {long_job}" in messages
    assert "Traceback" not in messages
    with Client(server) as client:
        assert client.job(long_job).status().state == "RUNNING"


def on_a_terminal(
    words: list[str], environ: dict[str, str], rich: bool = True, stdout: int | None = None
) -> tuple[int, str]:
    """Runs the client on a terminal of 100 x 40, and returns its exit code and all that was shown.

    Standard output goes elsewhere if that is given.
    """
    controller, terminal = pty.openpty()
    block = "" if rich else "import sys; sys.modules['rich'] = None; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{block}from mnist_client.cli import main; main()", *words],
        stdin=terminal,
        stdout=terminal if stdout is None else stdout,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **environ},
    )
    os.close(terminal)
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                part = os.read(controller, 65536)
            except OSError:  # Linux: the other end is closed
                return
            if not part:
                return
            shown.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = process.wait(SECONDS)
    finally:
        process.kill()
        process.wait()
        reader.join(SECONDS)
        os.close(controller)
    return code, shown.decode()


@pytest.fixture
def short_job(server: str, digits: Dataset) -> str:
    with Client(server) as client:
        job = client.train(digits, epochs=3, seed=1)
        job.result(timeout=SECONDS)
        return job.name


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_on_a_terminal_it_is_a_live_view(server: str, short_job: str, environ: dict[str, str]) -> None:
    pytest.importorskip("rich", reason="the live view is rich's")
    code, shown = on_a_terminal(["jobs", "watch", short_job, "--server", server], environ)
    assert code == ExitCode.DONE
    assert "Accuracy" in shown
    assert "3 / 3" in shown
    assert any(0x2800 < ord(character) < 0x2900 for character in shown)
    assert "Made models/" in shown.splitlines()[-1]
    assert ("\x1b[32m" in shown) == (not environ)  # the green of the curve, but for NO_COLOR


@pytest.mark.parametrize(
    ("environ", "rich"), [({"TERM": "dumb"}, True), ({"PYTHONIOENCODING": "ascii"}, True), ({}, False)]
)
def test_where_there_is_no_live_view_there_are_lines(
    server: str, short_job: str, environ: dict[str, str], rich: bool
) -> None:
    code, shown = on_a_terminal(["jobs", "watch", short_job, "--server", server], environ, rich)
    assert code == ExitCode.DONE
    assert "\x1b" not in shown
    assert [line.partition(" :")[0] for line in shown.splitlines()[1:-1]] == ["Epoch 0", "Epoch 1", "Epoch 2"]


def test_what_goes_to_a_file_is_lines(server: str, short_job: str, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        _, shown = on_a_terminal(["jobs", "watch", short_job, "--server", server], {}, stdout=out.fileno())
    assert [line.partition(" :")[0] for line in (tmp_path / "out").read_text().splitlines()] == [
        "Epoch 0",
        "Epoch 1",
        "Epoch 2",
    ]
    assert "Made models/" in shown
    assert "\x1b" not in shown


def test_on_a_terminal_jsonl_is_jsonl(server: str, short_job: str) -> None:
    _, shown = on_a_terminal(["jobs", "watch", short_job, "--server", server, "-o", "jsonl"], {})
    *records, _ = shown.splitlines()
    assert [json.loads(record)["sequence"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_a_terminal_has_its_cursor_back_after_ctrl_c(server: str, long_job: str) -> None:
    pytest.importorskip("rich", reason="the live view is rich's")
    controller, terminal = pty.openpty()
    with subprocess.Popen(
        [CLIENT, "jobs", "watch", long_job, "--server", server],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    ) as process:
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + SECONDS
        while b"best " not in shown and time.monotonic() < deadline:
            shown += os.read(controller, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while part := os.read(controller, 65536):
                shown += part
        except OSError:  # Linux: the other end is closed
            pass
        assert process.wait(SECONDS) == ExitCode.INTERRUPTED
    os.close(controller)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert f"jobs watch {long_job}".encode() in shown
