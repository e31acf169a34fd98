from collections.abc import Callable

import pytest

from mnist_proto.names import ModelName
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import NotFound, Stale, WrongState
from mnist_server.model_changes import delete_model, delete_version, set_alias
from mnist_server.registry import ModelRegistry

MakeVersion = Callable[..., str]


@pytest.fixture
def registry(directory: DataDirectory, database: Database) -> ModelRegistry:
    return ModelRegistry(database, directory.models)


@pytest.fixture
def three(make_version: MakeVersion) -> None:
    """models/mnist with versions 1 to 3, the first its default."""
    for seed in range(3):
        make_version(seed=seed)


def aliases(registry: ModelRegistry, model: str = "mnist") -> dict[str, int]:
    return dict(registry.get(ModelName(model)).aliases)


def etag(registry: ModelRegistry, model: str = "mnist") -> str:
    return registry.get(ModelName(model)).etag


@pytest.mark.usefixtures("three")
def test_an_alias_is_made_moved_and_removed(database: Database, registry: ModelRegistry) -> None:
    set_alias(database, "mnist", "stable", 2, "")
    assert aliases(registry) == {"default": 1, "stable": 2}
    set_alias(database, "mnist", "stable", 3, "")
    set_alias(database, "mnist", "default", 3, "")
    assert aliases(registry) == {"default": 3, "stable": 3}
    set_alias(database, "mnist", "default", 1, "")
    set_alias(database, "mnist", "stable", 0, "")
    assert aliases(registry) == {"default": 1}


@pytest.mark.usefixtures("three")
def test_every_change_has_an_etag_and_a_generation_of_its_own(
    database: Database, registry: ModelRegistry, directory: DataDirectory, make_version: MakeVersion
) -> None:
    make_version("other")
    other = etag(registry, "other")
    etags, generations = [etag(registry)], [0]
    for alias, version in (("stable", 2), ("stable", 1), ("stable", 2), ("stable", 0)):
        generations.append(set_alias(database, "mnist", alias, version, etags[-1]))
        etags.append(etag(registry))
    generations.append(delete_version(database, directory.models, "mnist", 3, etags[-1]))
    etags.append(etag(registry))
    make_version()
    etags.append(etag(registry))
    make_version(promote=True)
    etags.append(etag(registry))
    assert len(set(etags)) == len(etags)
    assert generations == sorted(set(generations))
    registry.refresh()
    assert registry.generation > generations[-1]
    assert etag(registry, "other") == other  # it has not changed


@pytest.mark.usefixtures("three")
def test_an_alias_that_stands_there_already_changes_nothing(
    database: Database, registry: ModelRegistry
) -> None:
    registry.refresh()
    before = etag(registry)
    assert set_alias(database, "mnist", "default", 1, before) == registry.generation
    assert etag(registry) == before


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("wrong", ["0", "x", " ", "stale"])
def test_a_stale_etag_changes_nothing(
    database: Database, registry: ModelRegistry, directory: DataDirectory, wrong: str
) -> None:
    stale = etag(registry) if wrong == "stale" else wrong
    set_alias(database, "mnist", "stable", 2, "")
    before = registry.get(ModelName("mnist"))
    for change in (
        lambda: set_alias(database, "mnist", "default", 2, stale),
        lambda: set_alias(database, "mnist", "default", 1, stale),
        lambda: set_alias(database, "mnist", "stable", 0, stale),
        lambda: delete_version(database, directory.models, "mnist", 3, stale),
        lambda: delete_model(database, directory.models, "mnist", stale, force=True),
    ):
        with pytest.raises(Stale, match=f"etag: '{stale}' is not that of models/mnist any more"):
            change()
    assert registry.get(ModelName("mnist")) == before
    assert len(list(directory.models.iterdir())) == 3


@pytest.mark.usefixtures("three")
def test_what_is_not_there_is_not_found(
    database: Database, registry: ModelRegistry, directory: DataDirectory
) -> None:
    before = registry.get(ModelName("mnist"))
    for change, name in (
        (lambda: set_alias(database, "mnist", "stable", 4, ""), "models/mnist/versions/4"),
        (lambda: set_alias(database, "mnist", "stable", 0, ""), "models/mnist/aliases/stable"),
        (lambda: set_alias(database, "none", "default", 1, ""), "models/none"),
        (lambda: delete_version(database, directory.models, "mnist", 4, ""), "models/mnist/versions/4"),
        (lambda: delete_version(database, directory.models, "none", 1, ""), "models/none"),
        (lambda: delete_model(database, directory.models, "none", "", force=True), "models/none"),
    ):
        with pytest.raises(NotFound, match=f"'{name}' was not found"):
            change()
    assert registry.get(ModelName("mnist")) == before


@pytest.mark.usefixtures("three")
def test_the_default_stays_while_there_are_versions(database: Database, registry: ModelRegistry) -> None:
    with pytest.raises(WrongState, match="models/mnist/aliases/default cannot be removed"):
        set_alias(database, "mnist", "default", 0, "")
    assert aliases(registry) == {"default": 1}


@pytest.mark.usefixtures("three")
def test_a_version_that_an_alias_stands_for_stays(
    database: Database, registry: ModelRegistry, directory: DataDirectory
) -> None:
    set_alias(database, "mnist", "stable", 1, "")
    named = "versions/1 cannot be deleted with models/mnist/aliases/default, models/mnist/aliases/stable"
    with pytest.raises(WrongState, match=named):
        delete_version(database, directory.models, "mnist", 1, "")
    set_alias(database, "mnist", "default", 2, "")
    with pytest.raises(WrongState, match=r"with models/mnist/aliases/stable standing"):
        delete_version(database, directory.models, "mnist", 1, "")
    set_alias(database, "mnist", "stable", 0, "")
    delete_version(database, directory.models, "mnist", 1, "")
    assert [version.version for version in registry.get(ModelName("mnist")).versions] == [3, 2]
    assert len(list(directory.models.iterdir())) == 2


@pytest.mark.usefixtures("three")
def test_a_model_goes_whole_only_when_its_aliases_may_go_too(
    database: Database, registry: ModelRegistry, directory: DataDirectory, make_version: MakeVersion
) -> None:
    make_version("other")
    with pytest.raises(WrongState, match="models/mnist cannot be deleted with models/mnist/aliases/default"):
        delete_model(database, directory.models, "mnist", "", force=False)
    assert len(list(directory.models.iterdir())) == 4
    _, versions = delete_model(database, directory.models, "mnist", etag(registry), force=True)
    assert versions == 3
    with pytest.raises(NotFound):
        registry.get(ModelName("mnist"))
    assert [model.name for model in registry.page(10, "")[0]] == ["models/other"]
    assert len(list(directory.models.iterdir())) == 1


@pytest.mark.usefixtures("three")
def test_no_number_is_given_twice(
    database: Database, registry: ModelRegistry, directory: DataDirectory, make_version: MakeVersion
) -> None:
    delete_version(database, directory.models, "mnist", 3, "")
    assert make_version() == "models/mnist/versions/4"
    seen = etag(registry)
    delete_model(database, directory.models, "mnist", "", force=True)
    assert make_version() == "models/mnist/versions/5"
    assert aliases(registry) == {"default": 5}  # the first there is
    assert etag(registry) != seen
    with pytest.raises(Stale):
        set_alias(database, "mnist", "default", 5, seen)
