import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from mnist_proto.names import expand_job
from mnist_proto.v1 import dataset_pb2
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.database import Database
from mnist_server.errors import AlreadyExists, LimitReached, NotFound, WrongState
from mnist_server.jobs import ENDED, Jobs, append, new_name, now, state_name

DATASET = dataset_pb2.Dataset(name=f"datasets/{'ab' * 32}", bytes=1)
STARTED = pb.TrainingEvent(started=pb.Started())
CONTINUED = pb.TrainingEvent(continued=pb.Continued(epoch=1))
SUCCEEDED = pb.TrainingEvent(succeeded=pb.Succeeded(model_version="models/mnist/versions/1"))
FAILED = pb.TrainingEvent(failed=pb.Failed(reason="of a reason"))
CANCELLED = pb.TrainingEvent(cancelled=pb.Cancelled())
PAUSED = pb.TrainingEvent(paused=pb.Paused())


def epoch(number: int) -> pb.TrainingEvent:
    return pb.TrainingEvent(epoch_finished=pb.EpochFinished(epoch=number, correct=9, total=10))


def test_names_are_names_of_the_contract_and_never_the_same() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    assert all(expand_job(name) == name for name in names)


def test_now_is_the_time() -> None:
    assert abs(now().ToNanoseconds() - time.time_ns()) < 10 * 10**9


def test_a_new_job_is_queued_and_its_first_event_is_accepted(
    jobs: Jobs, make_config: Callable[..., pb.ResolvedConfig]
) -> None:
    config = make_config("jobs/job-new", model="models/mine", seed=7)
    name = jobs.create("jobs/job-new", config, request_id="", request_hash="h", dataset=DATASET, max_queued=1)
    assert name == "jobs/job-new"
    job = jobs.get(name)
    assert (job.name, job.state, job.model) == (name, pb.JOB_STATE_QUEUED, "models/mine")
    assert job.config == config
    assert not job.HasField("start_time")
    assert not job.HasField("end_time")
    [event] = jobs.events(name, 0, 10)
    assert (event.job, event.sequence, event.accepted.config) == (name, 1, config)
    assert event.time == job.create_time
    assert job.last_sequence == 1


def test_a_job_is_what_its_events_make_of_it(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job()
    started = jobs.append(name, STARTED)
    assert started.state == pb.JOB_STATE_RUNNING
    job = jobs.append(name, epoch(0))
    assert (job.state, job.last_epoch.epoch, job.last_epoch.correct) == (pb.JOB_STATE_RUNNING, 0, 9)
    assert jobs.interrupted(name, crashed=False) == 0
    assert jobs.get(name).state == pb.JOB_STATE_QUEUED
    job = jobs.append(name, CONTINUED)
    assert job.state == pb.JOB_STATE_RUNNING
    assert job.start_time == started.start_time  # when its process first began
    job = jobs.append(name, SUCCEEDED)
    assert (job.state, job.model_version) == (pb.JOB_STATE_SUCCEEDED, "models/mnist/versions/1")
    events = jobs.events(name, 0, 100)
    assert job.end_time == events[-1].time
    assert job == jobs.get(name)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.WhichOneof("event") for event in events] == [
        "accepted",
        "started",
        "epoch_finished",
        "continued",
        "succeeded",
    ]
    assert {event.job for event in events} == {name}


def test_a_failed_job_says_why(jobs: Jobs, make_job: Callable[..., str]) -> None:
    job = jobs.append(make_job(), FAILED)
    assert (job.state, job.reason, job.model_version) == (pb.JOB_STATE_FAILED, "of a reason", "")
    assert job.HasField("end_time")


@pytest.mark.parametrize("last", [SUCCEEDED, FAILED, CANCELLED])
def test_nothing_happens_to_a_job_that_has_ended(
    jobs: Jobs, make_job: Callable[..., str], last: pb.TrainingEvent
) -> None:
    name = make_job()
    ended = jobs.append(name, last)
    assert ended.state in ENDED
    for event in (STARTED, epoch(0), SUCCEEDED, FAILED, CANCELLED):
        with pytest.raises(WrongState, match=f"{name} has {state_name(ended.state)}: expected"):
            jobs.append(name, event)
    assert jobs.get(name) == ended
    assert len(jobs.events(name, 0, 10)) == 2


def test_a_job_that_is_not_there_is_not_found(jobs: Jobs) -> None:
    for call in (
        lambda: jobs.get("jobs/none"),
        lambda: jobs.append("jobs/none", STARTED),
        lambda: jobs.cancel("jobs/none"),
        lambda: jobs.pause("jobs/none"),
        lambda: jobs.resume("jobs/none", [], allow_inexact=True),
        lambda: jobs.interrupted("jobs/none", crashed=True),
    ):
        with pytest.raises(NotFound, match="job: 'jobs/none' was not found: expected the name of a job"):
            call()


def test_a_history_without_a_gap_even_when_two_processes_write_it(
    jobs: Jobs, database: Database, make_job: Callable[..., str]
) -> None:
    name = make_job()
    other = Database(database.path)

    def write(writer: Jobs) -> None:
        for number in range(50):
            writer.append(name, epoch(number), durable=False)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in (jobs, Jobs(other))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [event.sequence for event in jobs.events(name, 0, 1000)] == list(range(1, 102))
    assert jobs.get(name).last_sequence == 101
    other.close()


def test_an_event_and_the_state_that_follows_are_one_transaction(
    jobs: Jobs, database: Database, make_job: Callable[..., str]
) -> None:
    name = make_job()
    before = jobs.get(name)
    with pytest.raises(ZeroDivisionError), database.write() as connection:  # noqa: PT012  # what follows it
        append(connection, name, SUCCEEDED)
        raise ZeroDivisionError
    assert jobs.get(name) == before
    assert len(jobs.events(name, 0, 10)) == 1


def test_jobs_and_events_are_as_they_were_when_the_database_is_opened_again(
    jobs: Jobs, database: Database, make_job: Callable[..., str]
) -> None:
    name = make_job(learning_rate=0.1, model="models/mine")
    jobs.append(name, STARTED)
    jobs.append(name, epoch(0), durable=False)
    job, events = jobs.get(name), jobs.events(name, 0, 100)
    database.close()
    again = Database(database.path)
    assert Jobs(again).get(name) == job
    assert Jobs(again).events(name, 0, 100) == events
    again.close()


def test_events_are_read_in_pages(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name, other = make_job(), make_job()
    jobs.append(other, STARTED)
    for number in range(9):
        jobs.append(name, epoch(number), durable=False)
    assert [event.sequence for event in jobs.events(name, 0, 4)] == [1, 2, 3, 4]
    assert [event.sequence for event in jobs.events(name, 8, 4)] == [9, 10]
    assert jobs.events(name, 10, 4) == []
    assert jobs.events("jobs/none", 0, 4) == []


def test_a_request_id_used_again_for_the_same_request_is_the_same_job(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job(request_id="mine", epochs=3)
    assert make_job(request_id="mine", epochs=3) == name
    jobs.append(name, FAILED)
    assert make_job(request_id="mine", epochs=3) == name
    assert jobs.find_request("mine", "hash of {'epochs': 3}") == name
    assert [job.name for job in jobs.page(10, None)[0]] == [name]
    assert len(jobs.events(name, 0, 10)) == 2


def test_a_request_id_used_for_another_request_is_refused(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job(request_id="mine", epochs=3)
    with pytest.raises(AlreadyExists, match=rf"config\.request_id: 'mine' was used by {name} for another"):
        make_job(request_id="mine", epochs=4)
    with pytest.raises(AlreadyExists):
        jobs.find_request("mine", "another hash")
    assert len(jobs.page(10, None)[0]) == 1


def test_without_a_request_id_every_request_is_a_job(jobs: Jobs, make_job: Callable[..., str]) -> None:
    assert make_job(epochs=3) != make_job(epochs=3)
    assert jobs.find_request("", "any hash") is None
    assert jobs.find_request("unused", "any hash") is None


def test_so_many_jobs_may_wait_and_no_more(jobs: Jobs, make_job: Callable[..., str]) -> None:
    waiting = [make_job(max_queued=2, request_id=number) for number in "ab"]
    with pytest.raises(LimitReached, match="2 jobs are waiting: expected fewer than 2") as raised:
        make_job(max_queued=2)
    assert raised.value.retry_after > 0
    assert make_job(max_queued=2, request_id="a") == waiting[0]  # it waits already
    assert len(jobs.page(10, None)[0]) == 2
    jobs.append(waiting[0], STARTED)
    make_job(max_queued=2)


def test_jobs_are_listed_newest_first_in_pages(jobs: Jobs, make_job: Callable[..., str]) -> None:
    names = [make_job() for _ in range(5)]
    listed: list[str] = []
    before: int | None = None
    sizes = []
    while True:
        page, before = jobs.page(2, before)
        listed += [job.name for job in page]
        sizes.append(len(page))
        if before is None:
            break
        if len(sizes) == 1:
            make_job()  # a new one does not move the pages that follow
    assert listed == names[::-1]
    assert sizes == [2, 2, 1]
    page, before = jobs.page(6, None)
    assert (len(page), before) == (6, None)


def test_pages_may_hold_some_states_or_one_model_alone(jobs: Jobs, make_job: Callable[..., str]) -> None:
    names = [make_job(model=f"models/{'ab'[number % 2]}") for number in range(8)]
    for name in names[:4]:
        jobs.append(name, STARTED)
    for name in names[:2]:
        jobs.append(name, PAUSED)

    def listed(**filters: Any) -> list[str]:
        found, before = [], None
        while True:
            page, before = jobs.page(2, before, **filters)
            found += [job.name for job in page]
            assert len(page) == 2 or before is None
            if before is None:
                return found[::-1]

    assert listed() == names
    assert listed(states={pb.JOB_STATE_QUEUED}) == names[4:]
    assert listed(states={pb.JOB_STATE_QUEUED, pb.JOB_STATE_PAUSED}) == names[:2] + names[4:]
    assert listed(model="models/a") == names[::2]
    assert listed(model="models/a", states={pb.JOB_STATE_RUNNING}) == [names[2]]
    assert listed(model="models/c") == []
    assert listed(states={pb.JOB_STATE_FAILED}) == []


@pytest.mark.parametrize("last", [SUCCEEDED, FAILED, CANCELLED])
def test_a_job_that_has_ended_can_be_forgotten(
    jobs: Jobs, make_job: Callable[..., str], last: pb.TrainingEvent
) -> None:
    name, other = make_job(request_id="mine"), make_job()
    jobs.append(name, last)
    jobs.delete(name)
    for call in (lambda: jobs.get(name), lambda: jobs.delete(name)):
        with pytest.raises(NotFound):
            call()
    assert jobs.events(name, 0, 10) == []
    assert len(jobs.events(other, 0, 10)) == 1
    assert make_job(request_id="mine") not in (name, other)  # the id is free again


def test_a_job_that_has_not_ended_cannot_be_forgotten(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job()
    for event in (None, STARTED, PAUSED):
        if event is not None:
            jobs.append(name, event)
        with pytest.raises(WrongState, match=f"{name} is .*: expected a job that has ended"):
            jobs.delete(name)
    assert len(jobs.events(name, 0, 10)) == 3


def test_a_queued_job_is_cancelled_at_once(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job()
    job = jobs.cancel(name)
    assert job.state == pb.JOB_STATE_CANCELLED
    assert jobs.events(name, 1, 10)[0].HasField("cancelled")
    assert jobs.cancel(name) == job  # once more changes nothing
    assert jobs.queued(9) == []


def test_a_running_jobs_trainer_is_asked_to_end_it(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name, other = make_job(), make_job()
    jobs.append(name, STARTED)
    assert jobs.asked(name) is None
    assert jobs.cancel(name).state == pb.JOB_STATE_RUNNING
    assert jobs.asked(name) == "cancel"
    assert jobs.asked(other) is None
    assert len(jobs.events(name, 0, 10)) == 2


@pytest.mark.parametrize("last", [SUCCEEDED, FAILED])
def test_a_job_that_ended_in_another_way_cannot_be_cancelled(
    jobs: Jobs, make_job: Callable[..., str], last: pb.TrainingEvent
) -> None:
    name = make_job()
    jobs.append(name, last)
    with pytest.raises(WrongState, match="expected a job that has not ended"):
        jobs.cancel(name)


def test_the_job_that_waited_longest_is_next(jobs: Jobs, make_job: Callable[..., str]) -> None:
    assert jobs.queued(9) == []
    first, second, third = make_job(), make_job(), make_job()
    assert jobs.queued(1) == [first]
    jobs.append(first, STARTED)
    assert jobs.queued(1) == [second]
    jobs.cancel(second)
    assert jobs.queued(1) == [third]
    jobs.interrupted(first, crashed=True)  # it keeps its place
    assert jobs.queued(1) == [first]


def test_those_that_waited_longest_come_first_but_for_those_that_are_excluded(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    names = [make_job() for _ in range(5)]
    assert jobs.queued(3) == names[:3]
    assert jobs.queued(2, {names[0], names[2]}) == [names[1], names[3]]
    assert jobs.queued(9, names[:4]) == names[4:]
    assert jobs.queued(0, names[:1]) == []


def test_a_paused_job_waits_until_it_is_resumed_and_keeps_its_place(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name, following = make_job(), make_job()
    jobs.append(name, STARTED)
    assert jobs.pause(name).state == pb.JOB_STATE_RUNNING
    assert jobs.asked(name) == "pause"
    paused = jobs.append(name, PAUSED)
    assert (paused.state, paused.reason) == (pb.JOB_STATE_PAUSED, "")
    assert jobs.asked(name) is None
    assert jobs.pause(name) == paused  # once more changes nothing
    for event in (STARTED, CONTINUED, epoch(0), PAUSED, SUCCEEDED, FAILED):
        with pytest.raises(WrongState, match=f"{name} is PAUSED: expected"):
            jobs.append(name, event)
    assert jobs.queued(9) == [following]
    resumed = jobs.resume(name, [], allow_inexact=False)
    assert resumed.state == pb.JOB_STATE_QUEUED
    assert jobs.queued(9) == [name, following]
    assert not jobs.allows_inexact(name)
    assert jobs.append(name, CONTINUED).state == pb.JOB_STATE_RUNNING
    kinds = [event.WhichOneof("event") for event in jobs.events(name, 0, 10)]
    assert kinds == ["accepted", "started", "paused", "resumed", "continued"]


def test_cancelling_wins_over_pausing(jobs: Jobs, make_job: Callable[..., str]) -> None:
    running, paused = make_job(), make_job()
    for name in (running, paused):
        jobs.append(name, STARTED)
        jobs.pause(name)
    jobs.cancel(running)
    assert jobs.asked(running) == "cancel"
    jobs.append(paused, PAUSED)
    assert jobs.cancel(paused).state == pb.JOB_STATE_CANCELLED


def test_a_job_that_is_cancelled_while_its_trainer_pauses_it_is_cancelled(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    jobs.append(name, STARTED)
    jobs.pause(name)
    assert jobs.asked(name) == "pause"  # the trainer looks, and writes a checkpoint
    jobs.cancel(name)
    assert jobs.append(name, PAUSED).state == pb.JOB_STATE_CANCELLED
    kinds = [event.WhichOneof("event") for event in jobs.events(name, 0, 10)]
    assert kinds == ["accepted", "started", "cancelled"]


def test_only_a_running_job_is_paused_and_only_a_paused_one_resumed(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    with pytest.raises(WrongState, match=f"{name} is QUEUED: expected a running job"):
        jobs.pause(name)
    with pytest.raises(WrongState, match=f"{name} is QUEUED: expected a paused job"):
        jobs.resume(name, ["it"], allow_inexact=True)
    jobs.append(name, STARTED)
    with pytest.raises(WrongState, match=f"{name} is RUNNING: expected a paused job"):
        jobs.resume(name, [], allow_inexact=False)
    jobs.append(name, SUCCEEDED)
    with pytest.raises(WrongState, match=f"{name} is SUCCEEDED: expected a running job"):
        jobs.pause(name)


def test_where_something_differs_a_job_is_resumed_only_if_that_is_allowed(
    jobs: Jobs, make_job: Callable[..., str]
) -> None:
    name = make_job()
    jobs.append(name, STARTED)
    jobs.append(name, pb.TrainingEvent(paused=pb.Paused(reason="numpy_version was 1, is 2")))
    assert jobs.get(name).reason == "numpy_version was 1, is 2"
    with pytest.raises(WrongState, match=r"numpy_version was 1, is 2.*allow_inexact"):
        jobs.resume(name, ["numpy_version was 1, is 2"], allow_inexact=False)
    assert jobs.get(name).state == pb.JOB_STATE_PAUSED
    job = jobs.resume(name, ["numpy_version was 1, is 2"], allow_inexact=True)
    assert (job.state, job.reason) == (pb.JOB_STATE_QUEUED, "")
    assert list(jobs.events(name, 3, 1)[0].resumed.differences) == ["numpy_version was 1, is 2"]
    assert jobs.allows_inexact(name)
    jobs.append(name, CONTINUED)
    jobs.append(name, PAUSED)
    jobs.resume(name, [], allow_inexact=False)
    assert jobs.allows_inexact(name)  # what it computed meanwhile stays what it is


@pytest.mark.parametrize("crashed", [False, True])
def test_a_job_that_was_to_be_paused_when_its_trainer_went_is_paused(
    jobs: Jobs, make_job: Callable[..., str], crashed: bool
) -> None:
    name = make_job()
    jobs.append(name, STARTED)
    jobs.pause(name)
    assert jobs.interrupted(name, crashed=crashed) == 0
    assert jobs.get(name).state == pb.JOB_STATE_PAUSED
    jobs.resume(name, [], allow_inexact=False)
    jobs.append(name, CONTINUED)
    assert jobs.interrupted(name, crashed=True) == 1


def test_crashes_are_counted_until_an_epoch_is_finished(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name, other = make_job(), make_job()
    jobs.append(name, STARTED)
    assert jobs.interrupted(name, crashed=True) == 1
    assert jobs.get(name).state == pb.JOB_STATE_QUEUED
    assert jobs.interrupted(name, crashed=True) == 2  # it died before it had begun
    assert jobs.interrupted(name, crashed=False) == 2
    assert jobs.interrupted(other, crashed=False) == 0
    jobs.append(name, CONTINUED)
    jobs.append(name, epoch(1))
    assert jobs.interrupted(name, crashed=True) == 1
    assert len(jobs.events(name, 0, 10)) == 4  # a crash is no event; `continued` tells of it


@pytest.mark.parametrize("crashed", [False, True])
def test_a_job_that_was_to_be_cancelled_when_its_trainer_went_is_cancelled(
    jobs: Jobs, make_job: Callable[..., str], crashed: bool
) -> None:
    name = make_job()
    jobs.append(name, STARTED)
    jobs.cancel(name)
    assert jobs.interrupted(name, crashed=crashed) == 0
    assert jobs.get(name).state == pb.JOB_STATE_CANCELLED
    assert [event.sequence for event in jobs.events(name, 0, 10)] == [1, 2, 3]
    assert jobs.queued(9) == []


def test_a_job_that_has_ended_is_not_queued_again(jobs: Jobs, make_job: Callable[..., str]) -> None:
    name = make_job()
    ended = jobs.append(name, FAILED)
    jobs.interrupted(name, crashed=True)
    assert jobs.get(name) == ended
    assert jobs.queued(9) == []


def test_running_names_those_that_run(jobs: Jobs, make_job: Callable[..., str]) -> None:
    names = [make_job() for _ in range(3)]
    assert jobs.running() == []
    for name in names[:2]:
        jobs.append(name, STARTED)
    assert sorted(jobs.running()) == sorted(names[:2])


def test_states_are_called_by_their_own_word() -> None:
    assert state_name(pb.JOB_STATE_QUEUED) == "QUEUED"
    assert {state_name(state) for state in ENDED} == {"SUCCEEDED", "FAILED", "CANCELLED"}
