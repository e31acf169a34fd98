from collections.abc import Callable
from typing import Any

import grpc
import pytest

from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1.model_pb2_grpc import ModelServiceStub

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
