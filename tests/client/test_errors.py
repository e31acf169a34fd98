"""Errors: every status becomes one exception, with all that the server said."""

import inspect
import pickle
import re
import threading
from collections.abc import Callable

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from mnist_client import AsyncClient, Client, data_errors, errors
from mnist_client.errors import ERRORS, InvalidInput, MnistError, ServerError, from_code
from mnist_proto.v1 import training_pb2

Serve = Callable[..., str]


def test_every_canonical_code_has_its_exception() -> None:
    assert set(ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    for code in ERRORS:
        error = from_code(code.value[0], "words", "server")
        assert type(error) is ERRORS[code]
        assert (error.code, error.message, error.server) == (code, "words", "server")


def test_every_class_of_the_tree_is_drawn_and_nothing_else() -> None:
    defined = {
        name
        for module in (errors, data_errors)
        for name, value in inspect.getmembers(module, inspect.isclass)
        if issubclass(value, MnistError)
    }
    tree = (errors.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    assert set(re.findall(r"^[│ ├└─]*(\w+)", tree, re.MULTILINE)) == defined
    assert set(ERRORS.values()) == {
        value for value in vars(errors).values() if inspect.isclass(value) and ServerError in value.__bases__
    }


def fail_by_name(request: training_pb2.GetTrainingJobRequest, context: grpc.ServicerContext) -> None:
    """Ends with the code that the job's name says: jobs/code-5."""
    [code] = [code for code in ERRORS if code.value[0] == int(request.job.rpartition("-")[2])]
    context.abort(code, "some words")


async def test_a_status_over_the_wire_becomes_its_exception(serve: Serve) -> None:
    address = serve(GetTrainingJob=fail_by_name)
    with Client(address) as client:
        async with AsyncClient(address) as async_client:
            for code, expected in ERRORS.items():
                name = f"code-{code.value[0]}"
                with pytest.raises(ServerError) as raised:
                    client.job(name).status()
                with pytest.raises(ServerError) as async_raised:
                    await async_client.job(name).status()
                assert type(raised.value) is type(async_raised.value) is expected
                assert raised.value.code is async_raised.value.code is code
                assert raised.value.message == "some words"
                assert raised.value.server == async_raised.value.server == address
                assert raised.value.details is None
                assert isinstance(raised.value.__cause__, grpc.RpcError)


def rich(code: grpc.StatusCode, message: str, *details: Message) -> grpc.Status:
    packed = []
    for detail in details:
        packed.append(Any())
        packed[-1].Pack(detail)
    status: grpc.Status = rpc_status.to_status(
        status_pb2.Status(code=code.value[0], message=message, details=packed)
    )
    return status


DETAILS = (
    error_details_pb2.ErrorInfo(reason="INVALID_VALUE", domain="mnist.v1", metadata={"log_id": "12"}),
    error_details_pb2.BadRequest(
        field_violations=[
            error_details_pb2.BadRequest.FieldViolation(field="config.epochs", description="too few"),
            error_details_pb2.BadRequest.FieldViolation(field="config.seed", description="too odd"),
        ]
    ),
    error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000)),
    error_details_pb2.Help(),  # which the SDK does not know
)


async def test_details_arrive(serve: Serve) -> None:
    def fail(request: object, context: grpc.ServicerContext) -> None:
        context.abort_with_status(rich(grpc.StatusCode.INVALID_ARGUMENT, "words", *DETAILS))

    address = serve(GetModel=fail)
    with Client(address) as client, pytest.raises(InvalidInput) as sync_raised:
        client.model("mnist")
    async with AsyncClient(address) as async_client:
        with pytest.raises(InvalidInput) as async_raised:
            await async_client.model("mnist")
    for error in (sync_raised.value, async_raised.value):
        assert error.details == errors.ErrorInfo("INVALID_VALUE", "mnist.v1", {"log_id": "12"})
        assert error.violations == (("config.epochs", "too few"), ("config.seed", "too odd"))
        assert error.retry_after == 2.5


@pytest.mark.parametrize(
    "metadata",
    [
        rich(grpc.StatusCode.NOT_FOUND, "words", *DETAILS).trailing_metadata,  # another code
        rich(grpc.StatusCode.ABORTED, "others", *DETAILS).trailing_metadata,  # other words
        (("grpc-status-details-bin", b"\xff\xff not a message"),),
    ],
)
def test_details_that_contradict_the_status_are_left_out(serve: Serve, metadata: tuple[object, ...]) -> None:
    def fail(request: object, context: grpc.ServicerContext) -> None:
        context.set_trailing_metadata(metadata)  # type: ignore[arg-type]  # as grpc_status makes it
        context.abort(grpc.StatusCode.ABORTED, "words")

    with Client(serve(GetModel=fail)) as client, pytest.raises(errors.ConditionNotMet) as raised:
        client.model("mnist")
    assert raised.value.message == "words"
    assert raised.value.details is None


def test_a_detail_that_cannot_be_read_is_left_out(serve: Serve) -> None:
    def fail(request: object, context: grpc.ServicerContext) -> None:
        broken = Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff\xff")
        status = status_pb2.Status(code=5, message="words", details=[broken])
        context.abort_with_status(rpc_status.to_status(status))

    with Client(serve(GetModel=fail)) as client, pytest.raises(errors.NotFound) as raised:
        client.model("mnist")
    assert raised.value.details is None


def test_being_unable_to_reach_a_server_names_it() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(errors.Unavailable) as raised:
        client.info()
    assert str(raised.value).startswith("127.0.0.1:1 is not available: ")


def test_a_late_answer_names_the_server(serve: Serve) -> None:
    def sleep(request: object, context: grpc.ServicerContext) -> None:
        ended = threading.Event()
        context.add_callback(ended.set)
        ended.wait(10)

    with (
        Client(serve(GetModel=sleep), timeout=0.2) as client,
        pytest.raises(errors.DeadlineExceeded) as raised,
    ):
        client.model("mnist")
    assert str(raised.value).startswith(f"{client.server} did not answer in time: ")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.JobFailed("jobs/a", "no space left"), "jobs/a failed: no space left"),
        (errors.JobCancelled("jobs/a"), "jobs/a was cancelled"),
        (
            InvalidInput.of("epochs", 0, "at least 1"),
            "epochs: 0 is not valid: expected at least 1",
        ),
    ],
)
def test_what_errors_say(error: MnistError, text: str) -> None:
    assert str(error) == text


def test_errors_survive_pickling() -> None:
    error = from_code(5, "words", "server")
    error.retry_after = 2.0
    for original in (error, errors.JobFailed("jobs/a", "why"), errors.JobCancelled("jobs/a")):
        copy = pickle.loads(pickle.dumps(original))  # our own bytes: workers hand errors over so
        assert type(copy) is type(original)
        assert str(copy) == str(original)
        assert vars(copy) == vars(original)
