"""Resource names: the wire's form, the shorthand, and nothing that is neither."""

import pytest

from mnist_proto.names import DEFAULT_ALIAS, DEFAULT_MODEL, ModelName, expand_job, expand_model, parse_model

LONGEST = "a" + "b" * 62
NOT_NAMES = [
    "",
    "M",
    "3m",
    "-m",
    "m_m",
    "m.m",
    "mé",
    "m ",
    " m",
    "m\n",
    LONGEST + "b",
]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("models/m", ModelName("m")),
        ("models/m-2", ModelName("m-2")),
        (f"models/{LONGEST}", ModelName(LONGEST)),
        ("models/m/versions/1", ModelName("m", version=1)),
        ("models/m/versions/120", ModelName("m", version=120)),
        ("models/m/aliases/stable", ModelName("m", alias="stable")),
        ("models/models/aliases/versions", ModelName("models", alias="versions")),
    ],
)
def test_a_model_of_the_wire_has_parts(name: str, parts: ModelName) -> None:
    assert parse_model(name) == parts
    assert str(parts) == name
    assert expand_model(name) == name


@pytest.mark.parametrize(
    ("short", "name"),
    [
        ("m", "models/m"),
        ("m@3", "models/m/versions/3"),
        ("m@stable", "models/m/aliases/stable"),
        (LONGEST, f"models/{LONGEST}"),
    ],
)
def test_a_models_shorthand_becomes_its_name(short: str, name: str) -> None:
    assert expand_model(short) == name


@pytest.mark.parametrize(
    "name",
    [
        *NOT_NAMES,
        *(f"models/{name}" for name in NOT_NAMES),
        *(f"models/m/aliases/{name}" for name in NOT_NAMES),
        "models/m/",
        "models/m/versions/",
        "models/m/versions/0",
        "models/m/versions/01",
        "models/m/versions/-1",
        "models/m/versions/1000000000000000000",  # nineteen digits: more than an int64 may hold
        "models/m/versions/a",
        "models/m/aliases/3",
        "models/m/versions/1/",
        "models/m/versions/1/aliases/a",
        "models/m/n",
        "Models/m",
        "xmodels/m",
    ],
)
def test_what_is_no_name_is_refused_with_what_was_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not valid: expected models/\{m\}") as raised:
        parse_model(name)
    assert repr(name) in str(raised.value)
    with pytest.raises(ValueError, match="is not valid: expected NAME, NAME@VERSION or NAME@ALIAS"):
        expand_model(name)


@pytest.mark.parametrize("short", ["m@", "@3", "m@0", "m@03", "m@a@b", "m@A", "m@3 ", "models/m@3"])
def test_what_is_no_shorthand_is_refused(short: str) -> None:
    with pytest.raises(ValueError, match="is not valid: expected NAME"):
        expand_model(short)


def test_the_wire_knows_no_shorthand() -> None:
    for short in ("m", "m@3", "m@stable", "models"):
        with pytest.raises(ValueError, match="is not valid"):
            parse_model(short)


def test_the_default_is_a_name() -> None:
    assert str(parse_model(DEFAULT_MODEL)) == DEFAULT_MODEL == "models/mnist"
    assert expand_model(f"mnist@{DEFAULT_ALIAS}") == "models/mnist/aliases/default"


@pytest.mark.parametrize("name", ["j", "job-1x", "jobs", LONGEST])
def test_a_jobs_name_may_be_short(name: str) -> None:
    assert expand_job(name) == expand_job(f"jobs/{name}") == f"jobs/{name}"


@pytest.mark.parametrize(
    "name", [*NOT_NAMES, *(f"jobs/{name}" for name in NOT_NAMES), "jobs/j/k", "models/j", "jobs/jobs/j"]
)
def test_what_is_no_job_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not valid: expected jobs/\{j\}"):
        expand_job(name)
