import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from mnist_core import checkpoint, load_model, save_model
from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1 import prediction_pb2
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub
from mnist_proto.v1.prediction_pb2_grpc import PredictionServiceStub
from mnist_server.data_directory import DataDirectory
from mnist_server.registry import ModelRegistry
from mnist_server.serving import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
DEADLINE = 2.0
Refused = Callable[..., Any]
MakeVersion = Callable[..., str]


@pytest.fixture
def stub(channel: grpc.Channel) -> ModelServiceStub:
    return ModelServiceStub(channel)


def get(stub: ModelServiceStub, name: str) -> pb.Model:
    return stub.GetModel(pb.GetModelRequest(model=name), timeout=DEADLINE).model


def test_without_models_the_list_is_empty(stub: ModelServiceStub) -> None:
    assert stub.ListModels(pb.ListModelsRequest(), timeout=DEADLINE) == pb.ListModelsResponse()


def test_a_model_has_its_versions_newest_first_and_its_aliases(
    stub: ModelServiceStub, make_version: MakeVersion
) -> None:
    names = [make_version(seed=seed) for seed in range(3)]
    make_version("other")
    model = get(stub, "models/mnist")
    assert model.name == "models/mnist"
    assert [version.name for version in model.versions] == names[::-1]
    assert [version.version for version in model.versions] == [3, 2, 1]
    assert dict(model.aliases) == {"default": 1}
    newest = model.versions[0]
    assert newest.config.config.seed == 2
    assert newest.parameters == 785 * 30 + 31 * 10
    assert len(newest.weights_hash) == 64
    assert newest.job.startswith("jobs/")
    assert newest.HasField("create_time")


def test_a_version_or_an_alias_names_one_version(stub: ModelServiceStub, make_version: MakeVersion) -> None:
    for seed in range(3):
        make_version(seed=seed, promote=seed == 1)
    whole = get(stub, "models/mnist")
    for name, number in (("versions/3", 3), ("versions/1", 1), ("aliases/default", 2)):
        model = get(stub, f"models/mnist/{name}")
        assert list(model.versions) == [version for version in whole.versions if version.version == number]
        assert (model.name, model.aliases) == (whole.name, whole.aliases)


def test_a_model_shows_at_most_its_newest_hundred_versions(
    stub: ModelServiceStub, make_version: MakeVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_server.registry.VERSIONS_SHOWN", 2)
    for seed in range(4):
        make_version(seed=seed)
    assert [version.version for version in get(stub, "models/mnist").versions] == [4, 3]
    assert get(stub, "models/mnist/versions/1").versions[0].version == 1


def test_pages_go_by_name_each_with_its_newest_version(
    stub: ModelServiceStub, make_version: MakeVersion
) -> None:
    for name in ("m10", "m2", "b", "m2", "z", "a"):
        make_version(name)
    pages, token = [], ""
    for _ in range(3):
        page = stub.ListModels(pb.ListModelsRequest(page_size=2, page_token=token), timeout=DEADLINE)
        pages.append([version.name for model in page.models for version in model.versions])
        token = page.next_page_token
    assert pages == [
        ["models/a/versions/1", "models/b/versions/1"],
        ["models/m10/versions/1", "models/m2/versions/2"],
        ["models/z/versions/1"],
    ]
    assert not token


@pytest.mark.parametrize("size", [-1, 1001, -(2**31)])
def test_bad_page_sizes_are_refused(stub: ModelServiceStub, refused: Refused, size: int) -> None:
    request = pb.ListModelsRequest(page_size=size)
    words = (str(size), "1 to 1,000")
    refused(lambda: stub.ListModels(request, timeout=DEADLINE), INVALID, *words, field="page_size")


@pytest.mark.parametrize("token", ["Mnist", "models/mnist", "\0", "a" * 100])
def test_bad_page_tokens_are_refused(stub: ModelServiceStub, refused: Refused, token: str) -> None:
    request = pb.ListModelsRequest(page_token=token)
    words = ("next_page_token",)
    refused(lambda: stub.ListModels(request, timeout=DEADLINE), INVALID, *words, field="page_token")


@pytest.mark.parametrize(
    "name", ["", "mnist", "models/", "models/a/versions/x", "models/a/versions/1/aliases/b", "jobs/a"]
)
def test_bad_names_are_refused(stub: ModelServiceStub, refused: Refused, name: str) -> None:
    refused(lambda: get(stub, name), INVALID, repr(name), "models/{m}", field="model")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("models/unknown", "models/mnist"),
        ("models/mnist/versions/2", "models/mnist/versions/1"),
        ("models/mnist/aliases/stable", "models/mnist/aliases/default"),
    ],
)
def test_what_is_not_there_is_not_found_and_what_is_there_is_listed(
    stub: ModelServiceStub, make_version: MakeVersion, refused: Refused, name: str, known: str
) -> None:
    make_version()
    refused(lambda: get(stub, name), grpc.StatusCode.NOT_FOUND, repr(name), known)


def set_alias(stub: ModelServiceStub, alias: str, version: int, etag: str = "") -> pb.Model:
    request = pb.SetAliasRequest(alias=alias, version=version, etag=etag)
    return stub.SetAlias(request, timeout=DEADLINE).model


def delete(stub: ModelServiceStub, model: str, **fields: Any) -> int:
    return stub.DeleteModel(pb.DeleteModelRequest(model=model, **fields), timeout=DEADLINE).versions


def test_an_alias_is_promoted_rolled_back_and_removed(
    stub: ModelServiceStub, make_version: MakeVersion, channel: grpc.Channel
) -> None:
    make_version()
    make_version(seed=1)
    predict = PredictionServiceStub(channel).Predict
    request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
    assert predict(request, timeout=DEADLINE).model == "models/mnist/versions/1"
    for version in (2, 1, 2):  # the next answer is already the new version's
        model = set_alias(stub, "models/mnist/aliases/default", version)
        assert model == get(stub, "models/mnist")
        assert dict(model.aliases) == {"default": version}
        assert predict(request, timeout=DEADLINE).model == f"models/mnist/versions/{version}"
    set_alias(stub, "models/mnist/aliases/stable", 1)
    request.model = "models/mnist/aliases/stable"
    assert predict(request, timeout=DEADLINE).model == "models/mnist/versions/1"
    assert dict(set_alias(stub, "models/mnist/aliases/stable", 0).aliases) == {"default": 2}
    with pytest.raises(grpc.RpcError, match="was not found"):
        predict(request, timeout=DEADLINE)


def test_a_stale_etag_is_aborted(stub: ModelServiceStub, make_version: MakeVersion, refused: Refused) -> None:
    make_version()
    make_version(seed=1)
    etag = get(stub, "models/mnist").etag
    [listed] = stub.ListModels(pb.ListModelsRequest(), timeout=DEADLINE).models
    assert listed.etag == get(stub, "models/mnist/versions/1").etag == etag
    changed = set_alias(stub, "models/mnist/aliases/default", 2, etag)
    aborted = grpc.StatusCode.ABORTED
    refused(lambda: set_alias(stub, "models/mnist/aliases/default", 1, etag), aborted, "etag", repr(etag))
    refused(lambda: delete(stub, "models/mnist/versions/1", etag=etag), aborted, "etag")
    refused(lambda: delete(stub, "models/mnist", etag=etag, force=True), aborted, "etag")
    assert get(stub, "models/mnist") == changed
    assert delete(stub, "models/mnist/versions/1", etag=changed.etag) == 1


def test_what_an_alias_stands_for_is_deleted_only_with_the_whole(
    stub: ModelServiceStub, make_version: MakeVersion, refused: Refused, directory: DataDirectory
) -> None:
    for seed in range(3):
        make_version(seed=seed)
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    default = "models/mnist/aliases/default"
    refused(lambda: delete(stub, "models/mnist/versions/1"), precondition, default)
    refused(lambda: delete(stub, "models/mnist"), precondition, default, "force")
    refused(lambda: set_alias(stub, default, 0), precondition, default)
    assert delete(stub, "models/mnist/versions/3") == 1
    assert delete(stub, "models/mnist", force=True) == 2
    assert list(directory.models.iterdir()) == []
    refused(lambda: get(stub, "models/mnist"), grpc.StatusCode.NOT_FOUND)
    refused(lambda: delete(stub, "models/mnist", force=True), grpc.StatusCode.NOT_FOUND, "models/mnist")
    assert make_version() == "models/mnist/versions/4"


@pytest.mark.parametrize(
    ("alias", "version", "field", "words"),
    [
        ("", 1, "alias", ("models/{m}",)),
        ("default", 1, "alias", ("'default'", "models/{m}/aliases/{a}")),
        ("models/mnist", 1, "alias", ("models/{m}/aliases/{a}",)),
        ("models/mnist/versions/1", 1, "alias", ("models/{m}/aliases/{a}",)),
        ("models/mnist/aliases/Stable", 1, "alias", ("models/{m}/aliases/{a}",)),
        ("models/mnist/aliases/7", 1, "alias", ("models/{m}/aliases/{a}",)),
        ("models/mnist/aliases/" + "a" * 64, 1, "alias", ("models/{m}/aliases/{a}",)),
        ("models/mnist/aliases/stable", 2**64 - 1, "version", (str(2**64 - 1), "number of a version")),
    ],
)
def test_bad_aliases_are_refused(
    stub: ModelServiceStub,
    make_version: MakeVersion,
    refused: Refused,
    alias: str,
    version: int,
    field: str,
    words: tuple[str, ...],
) -> None:
    make_version()
    before = get(stub, "models/mnist")
    refused(lambda: set_alias(stub, alias, version), INVALID, *words, field=field)
    assert get(stub, "models/mnist") == before


@pytest.mark.parametrize(
    ("model", "force", "field", "words"),
    [
        ("", False, "model", ("models/{m}",)),
        ("mnist", True, "model", ("'mnist'",)),
        ("models/mnist/aliases/default", False, "model", ("SetAlias removes an alias",)),
        ("models/mnist/versions/1", True, "force", ("false for one version",)),
    ],
)
def test_bad_deletions_are_refused(
    stub: ModelServiceStub,
    make_version: MakeVersion,
    refused: Refused,
    model: str,
    force: bool,
    field: str,
    words: tuple[str, ...],
) -> None:
    make_version()
    refused(lambda: delete(stub, model, force=force), INVALID, *words, field=field)
    assert len(get(stub, "models/mnist").versions) == 1


@pytest.mark.parametrize(
    ("alias", "version"),
    [("models/mnist/aliases/a", 2), ("models/none/aliases/a", 1), ("models/mnist/aliases/a", 0)],
)
def test_an_alias_of_what_is_not_there_is_not_found(
    stub: ModelServiceStub, make_version: MakeVersion, refused: Refused, alias: str, version: int
) -> None:
    make_version()
    refused(lambda: set_alias(stub, alias, version), grpc.StatusCode.NOT_FOUND, "was not found")


def test_a_version_that_cannot_serve_is_not_promoted(
    stub: ModelServiceStub,
    make_version: MakeVersion,
    refused: Refused,
    directory: DataDirectory,
    channel: grpc.Channel,
) -> None:
    make_version()
    before = set(directory.models.iterdir())
    make_version(seed=1)
    [path] = set(directory.models.iterdir()) - before
    network, config, _ = load_model(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "self_check_answers", lambda network: [[0.1] * 10] * 4)
        save_model(path, network, config, {})
    loss = grpc.StatusCode.DATA_LOSS
    etag = get(stub, "models/mnist").etag
    default = "models/mnist/aliases/default"
    refused(lambda: set_alias(stub, default, 2), loss, "models/mnist/versions/2", "self_check")
    assert get(stub, "models/mnist").etag == etag
    predict = PredictionServiceStub(channel).Predict
    request = prediction_pb2.PredictRequest(pixels=bytes(784), height=28, width=28)
    assert predict(request, timeout=DEADLINE).model == "models/mnist/versions/1"
    request.model = "models/mnist/versions/2"
    refused(lambda: predict(request, timeout=DEADLINE), loss, "models/mnist/versions/2", "self_check")


def test_a_change_that_not_every_process_has_confirmed_is_unavailable(
    stub: ModelServiceStub, make_version: MakeVersion, server: Server, refused: Refused
) -> None:
    make_version()
    make_version(seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ModelRegistry, "await_everywhere", lambda *_: False)
        refused(
            lambda: set_alias(stub, "models/mnist/aliases/default", 2),
            grpc.StatusCode.UNAVAILABLE,
            "the change is made",
        )
    assert dict(get(stub, "models/mnist").aliases) == {"default": 2}


SWAP_SECONDS = 3.0


def test_swapping_the_default_under_load_fails_nothing_and_every_answer_is_its_versions(
    stub: ModelServiceStub, make_version: MakeVersion, server: Server, directory: DataDirectory
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    expected = {}
    for seed in range(4):
        before = set(directory.models.iterdir())
        name = make_version(seed=seed, hidden_layers={"sizes": [20 + seed]})
        [path] = set(directory.models.iterdir()) - before
        expected[name] = load_model(path)[0].predict(images)
    answered: Counter[str] = Counter()
    failures: list[object] = []
    over = threading.Event()

    def ask(name: str) -> None:
        request = prediction_pb2.PredictRequest(model=name, pixels=images.tobytes(), height=28, width=28)
        try:
            with grpc.insecure_channel(server.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
                predict = PredictionServiceStub(channel).Predict
                while not over.is_set():
                    answer = predict(request, timeout=10 * DEADLINE)
                    off = np.abs(np.reshape(answer.probabilities, (3, 10)) - expected[answer.model]).max()
                    if not off <= 1e-5:
                        failures.append((answer.model, off))
                    answered[answer.model] += 1
        except Exception as error:
            failures.append(error)

    names = ["", "models/mnist", "models/mnist/aliases/default", "models/mnist/versions/2"]
    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SWAP_SECONDS
    swaps = 0
    # Other versions come and go meanwhile.
    while time.monotonic() < deadline and not failures:
        for version in (2, 3, 4, 1):
            set_alias(stub, "models/mnist/aliases/default", version)
            swaps += 1
        delete(stub, make_version(hidden_layers={"sizes": [5]}))
    over.set()
    for thread in threads:
        thread.join(timeout=30)
    assert failures == []
    assert set(answered) == set(expected)
    assert swaps >= 12
    assert sum(answered.values()) >= 100
