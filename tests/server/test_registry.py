import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from mnist_core import InvalidValue, Network, checkpoint, read_model, save_model
from mnist_core.architecture import Architecture
from mnist_core.layer import Convolution, Layer, MaxPool
from mnist_proto.names import ModelName
from mnist_proto.v1 import model_pb2
from mnist_server import registry as registry_module
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import Corrupt, NotFound
from mnist_server.model_changes import delete_version, set_alias
from mnist_server.registry import Model, ModelRegistry, add_version


@pytest.fixture
def registry(directory: DataDirectory, database: Database) -> ModelRegistry:
    return ModelRegistry(database, directory.models)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read, one entry a time."""
    found: list[str] = []

    def counting(path):  # type: ignore[no-untyped-def]  # as read_model
        found.append(path.name)
        time.sleep(0.02)  # long enough for another thread to come in between
        return read_model(path)

    monkeypatch.setattr(registry_module, "read_model", counting)
    return found


def test_a_version_is_loaded_by_any_of_its_names(
    registry: ModelRegistry, make_version: Callable[..., str]
) -> None:
    first, second = make_version(), make_version(seed=1)
    assert (first, second) == ("models/mnist/versions/1", "models/mnist/versions/2")
    for name in ("", "models/mnist", "models/mnist/aliases/default", first):
        assert registry.load(name, field="model").name == first
    assert registry.load(second, field="model").name == second


def test_a_model_is_the_network_that_was_made(
    registry: ModelRegistry, make_version: Callable[..., str]
) -> None:
    name = make_version(
        "other", hidden_layers={"sizes": [5, 7]}, output="OUTPUT_SOFTMAX", loss="LOSS_CROSS_ENTROPY"
    )
    model = registry.load(name, field="model")
    # Widened to what BLAS likes, with neurons that nobody listens to.
    assert model.network.sizes == (784, 8, 8, 10)
    assert (model.network.output, model.loss) == ("softmax", "cross_entropy")
    assert (model.classes, model.height, model.width) == (10, 28, 28)
    with pytest.raises(ValueError, match="read-only"):
        model.network.parameters[0] = 1.0
    assert model.network.predict(np.zeros((3, 784), np.uint8)).shape == (3, 10)


def test_a_version_is_read_once_and_shared(
    registry: ModelRegistry, make_version: Callable[..., str], reads: list[str]
) -> None:
    name = make_version()
    model = registry.load(name, field="model")
    registry.refresh()
    assert registry.load("models/mnist", field="model") is model
    assert registry.load("", field="model") is model
    assert len(reads) == 1
    assert registry.loaded() == [name]


def test_threads_that_ask_at_once_read_it_once(
    registry: ModelRegistry, make_version: Callable[..., str], reads: list[str]
) -> None:
    make_version()
    ready = threading.Barrier(8, timeout=10)
    found = []

    def load() -> None:
        ready.wait()
        found.append(registry.load("", field="model"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert len(found) == 8
    assert len({id(model) for model in found}) == 1
    assert len(reads) == 1


def test_an_alias_that_moved_is_seen_after_refresh(
    registry: ModelRegistry, make_version: Callable[..., str]
) -> None:
    make_version()
    assert registry.load("", field="model").name == "models/mnist/versions/1"
    make_version(promote=True)
    registry.refresh()
    assert registry.load("", field="model").name == "models/mnist/versions/2"
    assert registry.load("models/mnist/versions/1", field="model").name == "models/mnist/versions/1"


def test_a_refresh_in_the_middle_of_a_load_is_not_lost(
    registry: ModelRegistry, make_version: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version()

    def meanwhile(path):  # type: ignore[no-untyped-def]  # as read_model
        monkeypatch.setattr(registry_module, "read_model", read_model)
        make_version(promote=True)
        registry.refresh()
        return read_model(path)

    monkeypatch.setattr(registry_module, "read_model", meanwhile)
    assert registry.load("", field="model").name == "models/mnist/versions/1"
    assert registry.load("", field="model").name == "models/mnist/versions/2"


def spoil(directory: DataDirectory, database: Database, version: int) -> None:
    """Has a version fail its self-check, everything else about its file being as it was."""
    with database.read() as connection:
        rows = connection.execute(
            "SELECT file FROM versions WHERE model = 'mnist' AND version = ?", (version,)
        )
        path = directory.models / rows.fetchone()[0]
    saved = read_model(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "self_check_answers", lambda network: [[0.1] * 10] * 4)
        save_model(path, saved.network, saved.config, saved.provenance)


def test_refresh_has_the_new_version_in_memory_before_it_answers(
    registry: ModelRegistry, make_version: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_version()
    registry.load("", field="model")
    second = make_version(promote=True)
    answered = []

    def during(path):  # type: ignore[no-untyped-def]  # as read_model
        held = registry.held("")
        answered.append(held and held.name)
        return read_model(path)

    monkeypatch.setattr(registry_module, "read_model", during)
    registry.refresh()
    assert answered == [first]
    held = registry.held("")
    assert held is not None
    assert held.name == second
    assert held is registry.load(second, field="model")
    assert len(answered) == 1


def test_a_version_that_fails_its_self_check_does_not_serve_and_the_one_before_goes_on(
    registry: ModelRegistry, make_version: Callable[..., str], directory: DataDirectory, database: Database
) -> None:
    first = make_version()
    registry.load("", field="model")
    bad = make_version(promote=True, seed=1)
    spoil(directory, database, 2)
    for _ in range(2):
        registry.refresh()
        assert registry.load("", field="model").name == first
        with pytest.raises(Corrupt, match=rf"^{bad}: .*self_check: .*an answer off by"):
            registry.load(bad, field="model")
    good = make_version(promote=True, seed=2)
    registry.refresh()
    assert registry.load("", field="model").name == good


def test_refresh_does_nothing_where_no_model_has_changed(
    registry: ModelRegistry, make_version: Callable[..., str], database: Database
) -> None:
    make_version()
    registry.refresh()
    registry.load("", field="model")
    resolved, generation = registry._resolved, registry.generation
    with database.write() as connection:
        connection.execute("INSERT INTO datasets VALUES ('a', 1)")
    registry.refresh()
    assert registry._resolved is resolved
    assert registry.generation == generation > 0


def test_what_was_deleted_is_not_found_and_leaves_the_memory(
    registry: ModelRegistry, make_version: Callable[..., str], directory: DataDirectory, database: Database
) -> None:
    make_version()
    second = make_version()
    model = registry.load(second, field="model")
    delete_version(database, directory.models, "mnist", 2, "")
    registry.refresh()
    with pytest.raises(NotFound):
        registry.load(second, field="model")
    assert registry.loaded() == []
    assert model.network.predict(np.zeros((1, 784), np.uint8)).shape == (1, 10)  # who has it keeps it


def test_an_alias_whose_version_goes_while_it_is_loaded_is_found_anew(
    registry: ModelRegistry,
    make_version: Callable[..., str],
    directory: DataDirectory,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_version()
    second = make_version(seed=1)

    def meanwhile(path):  # type: ignore[no-untyped-def]  # as read_model
        monkeypatch.setattr(registry_module, "read_model", read_model)
        set_alias(database, "mnist", "default", 2, "")
        delete_version(database, directory.models, "mnist", 1, "")
        return read_model(path)

    monkeypatch.setattr(registry_module, "read_model", meanwhile)
    assert registry.load("", field="model").name == second


def test_other_processes_are_waited_for(database: Database, directory: DataDirectory) -> None:
    asked = []

    def everywhere(generation: int, seconds: float) -> bool:
        asked.append((generation, seconds))
        return generation == 1

    alone = ModelRegistry(database, directory.models)
    assert alone.await_everywhere(1, 5.0)
    assert alone.generation == 1
    reached: list[int] = []
    several = ModelRegistry(database, directory.models, everywhere, reached.append)
    assert several.await_everywhere(1, 5.0)
    assert not several.await_everywhere(2, 0.5)
    assert asked == [(1, 5.0), (2, 0.5)]
    assert reached == [1, 1]  # before the others are waited for, who wait for this one


def test_a_network_of_any_width_answers_as_it_was_trained(
    registry: ModelRegistry, make_version: Callable[..., str], directory: DataDirectory
) -> None:
    make_version()  # 30 hidden neurons
    [file] = directory.models.iterdir()
    trained = read_model(file).network
    served = registry.load("", field="model").network
    images = np.random.default_rng(0).integers(0, 256, (9, 28, 28), dtype=np.uint8)
    assert served.sizes != trained.sizes == (784, 30, 10)
    np.testing.assert_allclose(served.predict(images), trained.predict(images), atol=1e-6)


def test_a_model_that_is_not_there_is_not_found_and_those_that_are_are_listed(
    registry: ModelRegistry, make_version: Callable[..., str]
) -> None:
    with pytest.raises(NotFound) as raised:
        registry.load("", field="model")
    assert str(raised.value) == (
        "model: 'models/mnist' was not found: expected a model; there are none yet, so train one first"
    )
    make_version("b")
    make_version("a")
    make_version("a")
    with pytest.raises(NotFound) as raised:
        registry.load("", field="model")
    assert str(raised.value) == "model: 'models/mnist' was not found: expected one of models/a, models/b"
    for name in ("models/a/versions/3", "models/a/aliases/stable"):
        with pytest.raises(NotFound) as raised:
            registry.load(name, field="model")
        assert str(raised.value) == (
            f"model: '{name}' was not found: expected one of models/a/versions/2, models/a/versions/1, "
            "models/a/aliases/default"
        )
    with pytest.raises(NotFound):
        registry.get(ModelName("none"))
    make_version()
    assert registry.load("", field="model").name == "models/mnist/versions/1"


def test_what_is_no_name_is_refused_naming_the_field(registry: ModelRegistry) -> None:
    with pytest.raises(InvalidValue, match=r"^config\.model: 'mnist' is not valid: expected models/\{m\}"):
        registry.load("mnist", field="config.model")


def test_a_damaged_file_is_corrupt_and_other_models_are_not(
    registry: ModelRegistry, directory: DataDirectory, make_version: Callable[..., str]
) -> None:
    bad = make_version("bad")
    [file] = directory.models.iterdir()
    good = make_version("good")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for _ in range(2):
        with pytest.raises(Corrupt, match=rf"^{bad}: "):
            registry.load(bad, field="model")
    file.unlink()
    with pytest.raises(Corrupt, match=rf"^{bad}: "):
        registry.load(bad, field="model")
    assert registry.load(good, field="model").name == good
    assert registry.loaded() == [good]


def test_the_file_of_another_version_is_corrupt(
    registry: ModelRegistry, directory: DataDirectory, make_version: Callable[..., str]
) -> None:
    make_version()
    [first] = directory.models.iterdir()
    make_version(seed=1)
    [second] = set(directory.models.iterdir()) - {first}
    first.write_bytes(second.read_bytes())
    with pytest.raises(Corrupt, match="models/mnist/versions/1: the weights' hash is not"):
        registry.load("models/mnist/versions/1", field="model")


def test_what_was_not_asked_for_longest_makes_room(
    registry: ModelRegistry,
    make_version: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    reads: list[str],
) -> None:
    names = [make_version() for _ in range(3)]
    one = registry.load(names[0], field="model").network.parameters.nbytes
    monkeypatch.setattr(registry_module, "MAX_LOADED_BYTES", 2 * one)
    registry.load(names[1], field="model")
    registry.load(names[2], field="model")
    assert registry.loaded() == [names[1], names[2]]
    registry.load(names[1], field="model")  # once one has had to make room, each that is asked for says so
    assert registry.load(names[0], field="model").name == names[0]
    assert registry.loaded() == [names[1], names[0]]
    assert len(reads) == 4
    monkeypatch.setattr(registry_module, "MAX_LOADED_BYTES", 1)
    assert registry.load(names[2], field="model").name == names[2]  # one is served, however large
    assert registry.loaded() == [names[2]]


def test_a_model_is_shown_with_its_versions_newest_first(
    registry: ModelRegistry, make_version: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        make_version("mine", seed=number, promote=number == 1)
    model = registry.get(ModelName("mine"))
    assert model.name == "models/mine"
    assert [version.version for version in model.versions] == [3, 2, 1]
    assert [version.config.config.seed for version in model.versions] == [2, 1, 0]
    assert dict(model.aliases) == {"default": 2}
    newest = model.versions[0]
    assert (newest.name, newest.parameters) == ("models/mine/versions/3", 785 * 30 + 31 * 10)
    [version] = registry.get(ModelName("mine", version=1)).versions
    assert version.version == 1
    [version] = registry.get(ModelName("mine", alias="default")).versions
    assert version.version == 2
    monkeypatch.setattr(registry_module, "VERSIONS_SHOWN", 2)
    assert [version.version for version in registry.get(ModelName("mine")).versions] == [3, 2]


def test_models_are_listed_by_name_in_pages_each_with_its_newest_version(
    registry: ModelRegistry, make_version: Callable[..., str]
) -> None:
    assert registry.page(10, "") == ([], None)
    for name in ("c", "a", "b", "a"):
        make_version(name)
    page, following = registry.page(2, "")
    assert [(model.name, [version.version for version in model.versions]) for model in page] == [
        ("models/a", [2]),
        ("models/b", [1]),
    ]
    assert dict(page[0].aliases) == {"default": 1}
    assert following is not None
    page, following = registry.page(2, following)
    assert [model.name for model in page] == ["models/c"]
    assert following is None
    assert [len(models) for models, _ in (registry.page(3, ""), registry.page(1, "z"))] == [3, 0]


def test_versions_are_numbered_a_model_and_the_first_becomes_the_default(
    database: Database, registry: ModelRegistry
) -> None:
    def add(model: str, file: str, *, promote: bool = False) -> str:
        with database.write() as connection:
            return add_version(connection, model, file, model_pb2.ModelVersion(), promote=promote)

    assert add("models/a", "1") == "models/a/versions/1"
    assert add("models/b", "2", promote=True) == "models/b/versions/1"
    assert add("models/a", "3") == "models/a/versions/2"
    assert dict(registry.get(ModelName("a")).aliases) == {"default": 1}
    assert add("models/a", "4", promote=True) == "models/a/versions/3"
    assert dict(registry.get(ModelName("a")).aliases) == {"default": 3}
    assert add("models/a", "5") == "models/a/versions/4"
    assert dict(registry.get(ModelName("a")).aliases) == {"default": 3}
    assert [version.name for version in registry.get(ModelName("a")).versions] == [
        f"models/a/versions/{number}" for number in (4, 3, 2, 1)
    ]


def test_a_version_that_is_not_committed_is_not_there(database: Database, registry: ModelRegistry) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:  # noqa: PT012  # one statement
        add_version(connection, "models/a", "1", model_pb2.ModelVersion(), promote=True)
        raise ZeroDivisionError
    assert registry.page(10, "") == ([], None)
    with pytest.raises(NotFound):
        registry.load("models/a", field="model")


CONVOLUTIONS: list[Layer] = [Convolution(20, 5), MaxPool(), Convolution(40, 5), MaxPool()]


@pytest.mark.parametrize(
    ("architecture", "work", "chunk"),
    [
        (Architecture.of_sizes((784, 100, 10)), 2e5, 1024),  # 79,510 multiply-adds each
        (Architecture.of_layers((28, 28), CONVOLUTIONS, 10), 1_588_490, 1024),
        (Architecture.of_layers((64, 64), [Convolution(64, 9)] * 2, 10), 782_491_658, 2),
    ],
)
def test_the_more_work_an_image_is_the_fewer_go_through_together(
    architecture: Architecture, work: float, chunk: int
) -> None:
    network = Network(architecture, "relu", "softmax", np.zeros(architecture.parameters, np.float32))
    model = Model("models/m/versions/1", network, "cross_entropy", 28, 28)
    assert (model.work, model.chunk) == (work, chunk)
