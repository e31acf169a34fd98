import pytest

from mnist_core import InvalidValue
from mnist_proto.names import ModelName
from mnist_server.names import job_name, model_name, page_size


def test_names_of_the_contract_are_taken() -> None:
    assert model_name("model", "models/mnist") == ModelName("mnist")
    assert model_name("model", "models/mnist/versions/3") == ModelName("mnist", version=3)
    assert model_name("model", "models/mnist/aliases/stable") == ModelName("mnist", alias="stable")
    assert job_name("jobs/job-1") == "jobs/job-1"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "mnist",
        "mnist@3",
        "models/",
        "models/Mnist",
        "models/mnist/versions/0",
        "models/mnist/versions/-1",
        "models/mnist/versions/99999999999999999999",
        "models/mnist/aliases/",
        "models/mnist/",
        "models/mnist\n",
        "models/../../etc/passwd",
        "models/" + "m" * 64,
    ],
)
def test_what_is_no_model_is_refused_naming_the_field(name: str) -> None:
    with pytest.raises(
        InvalidValue, match=r"^config\.model: .* is not valid: expected models/\{m\}, "
    ) as raised:
        model_name("config.model", name)
    assert (raised.value.field, raised.value.value) == ("config.model", name)


@pytest.mark.parametrize("name", ["", "jobs/", "jobs/../1", "jobs/a/b", "jobs/A", "models/a", "jobs/a\n"])
def test_what_is_no_job_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue, match=r"^job: .* is not valid: expected jobs/\{j\}$"):
        job_name(name)


def test_a_page_has_a_size_of_1_to_1000_and_100_unless_it_is_said() -> None:
    assert [page_size(size) for size in (0, 1, 100, 1000)] == [100, 1, 100, 1000]


@pytest.mark.parametrize("size", [-1, 1001, 2**31 - 1, -(2**31)])
def test_other_sizes_of_a_page_are_refused(size: int) -> None:
    with pytest.raises(InvalidValue, match=rf"^page_size: {size} is not valid: expected 1 to 1,000, or 0"):
        page_size(size)
