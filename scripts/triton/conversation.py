"""A conversation with the server by tritonclient: all of its clients, every method, and what is refused.

Run by check.py, in an environment that has tritonclient and nothing of ours: `conversation.py HOST:PORT
FILE`, where the file has `images` (N, 28, 28) and `labels` (N,). Prints a line for each thing that was tried,
and ends at the first that is not as it should be.
"""

import asyncio
import queue
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

DEADLINE = 10.0
MODEL = "mnist"


def main() -> None:
    """Tries everything."""
    address, file = sys.argv[1:]
    with np.load(file, allow_pickle=False) as data:
        images, labels = data["images"], data["labels"]
    said(f"tritonclient {version('tritonclient')}")
    with triton.InferenceServerClient(address) as client:
        describe(client)
        infer(client, images, labels)
        refusals(client, images)
        asynchronous(client, images)
        streaming(client, images)
        statistics(client, images)
    asyncio.run(aio(address, images))
    said("everything is as it should be")


def said(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tensor(images: np.ndarray, datatype: str = "UINT8") -> list[Any]:
    """Returns the inputs of a request for these images, of any shape."""
    if datatype == "FP32" and images.dtype == np.uint8:
        images = (images / 255).astype(np.float32)
    made = triton.InferInput("images", images.shape, datatype)
    made.set_data_from_numpy(images)
    return [made]


def describe(client: Any) -> None:
    """What a server and a model say of themselves."""
    assert client.is_server_live(client_timeout=DEADLINE)
    assert client.is_server_ready(client_timeout=DEADLINE)
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("nobody")
    assert not client.is_model_ready(MODEL, "99")
    said("is_server_live, is_server_ready, is_model_ready: true; of an unknown model or version false")
    server = client.get_server_metadata(as_json=True)
    said(f"get_server_metadata: {server}")
    metadata = client.get_model_metadata(MODEL, as_json=True)
    said(f"get_model_metadata: {metadata}")
    assert metadata["name"] == MODEL
    assert "1" in metadata["versions"]
    assert metadata["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": ["-1", "784"]}]
    config = client.get_model_config(MODEL, as_json=True)["config"]
    said(f"get_model_config: {config}")
    assert config["max_batch_size"] > 0
    assert config["input"][0]["dims"] == ["784"]
    index = client.get_model_repository_index(as_json=True)["models"]
    said(f"get_model_repository_index: {index}")
    assert {"name": MODEL, "version": "1", "state": "READY"} in index


def infer(client: Any, images: np.ndarray, labels: np.ndarray) -> None:
    """One request, in every form that a caller may give it."""
    flat = images.reshape(len(images), -1)
    forms = {
        "UINT8 [-1,784]": tensor(flat),
        "UINT8 [-1,28,28]": tensor(images),
        "FP32 [-1,784]": tensor(flat, "FP32"),
        "FP32 [-1,28,28]": tensor(images, "FP32"),
    }
    first = None
    for form, inputs in forms.items():
        result = client.infer(MODEL, inputs, request_id="seven", client_timeout=DEADLINE)
        answer = result.get_response()
        assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "1", "seven")
        probabilities, digit = result.as_numpy("probabilities"), result.as_numpy("digit")
        assert probabilities.shape == (len(images), 10)
        assert probabilities.dtype == np.float32
        assert digit.shape == (len(images),)
        assert digit.dtype == np.int64
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(digit, probabilities.argmax(axis=1))
        first = probabilities if first is None else first
        np.testing.assert_allclose(probabilities, first, atol=1e-5)
        said(f"infer {form}: {int((digit == labels).sum())} of {len(labels)} right")
    result = client.infer(MODEL, tensor(flat), model_version="1", client_timeout=DEADLINE)
    assert result.get_response().model_version == "1"
    only = [triton.InferRequestedOutput("digit")]
    result = client.infer(MODEL, tensor(flat), outputs=only, client_timeout=DEADLINE)
    assert result.as_numpy("probabilities") is None
    assert len(result.as_numpy("digit")) == len(images)
    said("infer, outputs=[digit]: digit alone")
    likeliest = [triton.InferRequestedOutput("probabilities", class_count=3)]
    result = client.infer(MODEL, tensor(flat[:2]), outputs=likeliest, client_timeout=DEADLINE)
    classes = result.as_numpy("probabilities")
    assert classes.shape == (2, 3)
    said(f"infer, class_count=3: {classes.tolist()}")
    for row, numbers in zip(classes, first[:2], strict=True):
        assert [int(text.split(b":")[1]) for text in row] == np.argsort(-numbers)[:3].tolist()
    for algorithm in ("gzip", "deflate"):
        client.infer(MODEL, tensor(flat), compression_algorithm=algorithm, client_timeout=DEADLINE)
    said("infer, compression gzip and deflate: answered")


def refused(code: str, call: Callable[[], object], *words: str) -> None:
    """`call` is refused with this status and these words."""
    try:
        call()
    except InferenceServerException as error:
        found = error
    else:
        raise AssertionError(f"not refused, expected {code}")
    assert found.status() == f"StatusCode.{code}", found
    for word in words:
        assert word in found.message(), found
    said(f"refused, {code}: {found.message()}")


def refusals(client: Any, images: np.ndarray) -> None:
    """What is wrong is said."""
    one = images[:1].reshape(1, -1)

    def ask(inputs: list[Any], model: str = MODEL, **more: Any) -> Callable[[], object]:
        return lambda: client.infer(model, inputs, client_timeout=DEADLINE, **more)

    refused("NOT_FOUND", ask(tensor(one), "nobody"), "nobody")
    refused("NOT_FOUND", ask(tensor(one), model_version="99"), "99")
    refused("INVALID_ARGUMENT", ask(tensor(one[:, :100])), "[1, 100]", "784")
    refused("INVALID_ARGUMENT", ask(tensor(one.astype(np.int32), "INT32")), "INT32", "UINT8 or FP32")
    refused("INVALID_ARGUMENT", ask(tensor(np.full((1, 784), np.nan, np.float32), "FP32")), "nan")
    refused("INVALID_ARGUMENT", ask(tensor(one.astype(np.float32), "FP32")), "0 to 1")
    unknown = [triton.InferRequestedOutput("logits")]
    refused("INVALID_ARGUMENT", ask(tensor(one), outputs=unknown), "logits", "probabilities")
    shared = triton.InferInput("images", [1, 784], "UINT8")
    shared.set_shared_memory("region", 784)
    refused("INVALID_ARGUMENT", ask([shared]), "shared_memory")


def asynchronous(client: Any, images: np.ndarray) -> None:
    """async_infer: a callback for each of many requests in flight."""
    answers: queue.Queue[Any] = queue.Queue()
    for place in range(100):
        inputs = tensor(images[place % len(images)].reshape(1, -1))
        client.async_infer(
            MODEL, inputs, lambda result, error: answers.put((result, error)), request_id=str(place)
        )
    got = [answers.get(timeout=DEADLINE) for _ in range(100)]
    assert all(error is None for _, error in got)
    assert {result.get_response().id for result, _ in got} == {str(place) for place in range(100)}
    said("async_infer: 100 in flight, 100 answers")


def streaming(client: Any, images: np.ndarray) -> None:
    """A stream, in the middle of which a message is wrong."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for place in range(20):
        image = images[place : place + 1].reshape(1, -1)
        wrong = place == 10
        client.async_stream_infer(
            MODEL, tensor(image[:, :100] if wrong else image), request_id=str(place),
            enable_empty_final_response=True,
        )  # fmt: skip
    got = [answers.get(timeout=DEADLINE) for _ in range(20)]
    client.stop_stream()
    for place, (result, error) in enumerate(got):
        if place == 10:
            assert result is None
            assert "784" in str(error)
            said(f"async_stream_infer, message 10 of 20: {error}")
        else:
            assert error is None, error
            answer = result.get_response()
            assert answer.id == str(place)
            assert answer.parameters["triton_final_response"].bool_param
    said("async_stream_infer: the other 19 are answered, in order")


def statistics(client: Any, images: np.ndarray) -> None:
    """get_inference_statistics grows with what is asked."""

    def now() -> tuple[int, int, int]:
        [of_model] = client.get_inference_statistics(MODEL, "1").model_stats
        success = of_model.inference_stats.success
        return success.count, of_model.inference_count, of_model.inference_stats.fail.count

    before = now()
    for _ in range(5):
        client.infer(MODEL, tensor(images[:4]), client_timeout=DEADLINE)
    with suppress(InferenceServerException):
        client.infer(MODEL, tensor(images[:1, :5]), client_timeout=DEADLINE)
    grown = tuple(new - old for new, old in zip(now(), before, strict=True))
    assert grown == (5, 20, 1), grown
    said(f"get_inference_statistics: {client.get_inference_statistics(MODEL, as_json=True)}")


async def aio(address: str, images: np.ndarray) -> None:
    """The client for asyncio: a call, many at once, and a stream."""
    async with triton_aio.InferenceServerClient(address) as client:
        assert await client.is_server_ready()
        calls = [client.infer(MODEL, tensor(images[i : i + 1]), request_id=str(i)) for i in range(20)]
        results = await asyncio.wait_for(asyncio.gather(*calls), DEADLINE)
        assert [result.get_response().id for result in results] == [str(i) for i in range(20)]

        async def requests() -> Any:
            for i in range(5):
                yield {"model_name": MODEL, "inputs": tensor(images[i : i + 1]), "request_id": str(i)}

        got = [both async for both in client.stream_infer(requests())]
        assert [result.get_response().id for result, error in got if error is None] == list("01234")
    said("aio: 20 infer at once, stream_infer of 5: answered")


if __name__ == "__main__":
    main()
