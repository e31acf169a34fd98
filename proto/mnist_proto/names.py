"""Resource names: how models, versions, aliases, jobs and data sets are called on the wire and by people.

On the wire a model is `models/{m}`, `models/{m}/versions/{n}` or `models/{m}/aliases/{a}`, a job is
`jobs/{j}`, and a data set is `datasets/{sha256}`; people may write `m`, `m@3`, `m@stable`, `j` and the hash.
"""

import re
from dataclasses import dataclass

DEFAULT_MODEL = "models/mnist"
DEFAULT_ALIAS = "default"

_ID = r"[a-z][a-z0-9-]{0,62}"
_VERSION = r"[1-9][0-9]{0,17}"
_WIRE = re.compile(rf"models/({_ID})(?:/versions/({_VERSION})|/aliases/({_ID}))?")
_SHORT = re.compile(rf"({_ID})(?:@(?:({_VERSION})|({_ID})))?")
_JOB = re.compile(rf"(?:jobs/)?({_ID})")
_DATASET = re.compile("(?:datasets/)?([0-9a-f]{64})")


@dataclass(frozen=True)
class ModelName:
    """A model, and perhaps one version of it by number or by alias, never both."""

    model: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"models/{self.model}/versions/{self.version}"
        if self.alias is not None:
            return f"models/{self.model}/aliases/{self.alias}"
        return f"models/{self.model}"


def is_id(text: str) -> bool:
    """Says whether a text may name a model, an alias or a job: [a-z][a-z0-9-]{0,62}."""
    return re.fullmatch(_ID, text) is not None


def parse_model(name: str) -> ModelName:
    """Returns the parts of a model's name as the wire has it. Raises ValueError, saying what was expected."""
    match = _WIRE.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not valid: expected models/{{m}}, models/{{m}}/versions/{{n}} or "
            "models/{m}/aliases/{a}, where m and a match [a-z][a-z0-9-]{0,62}"
        )
    return _model_name(match)


def expand_model(name: str) -> str:
    """Returns the wire's name of a model from a name or shorthand. Raises ValueError if it is neither."""
    match = _WIRE.fullmatch(name) or _SHORT.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not valid: expected NAME, NAME@VERSION or NAME@ALIAS, where names match "
            "[a-z][a-z0-9-]{0,62}"
        )
    return str(_model_name(match))


def expand_job(name: str) -> str:
    """Returns the wire's name of a job from `jobs/{j}` or `j`. Raises ValueError if it is neither."""
    match = _JOB.fullmatch(name)
    if match is None:
        raise ValueError(f"{name!r} is not valid: expected jobs/{{j}}, j matching [a-z][a-z0-9-]{{0,62}}")
    return f"jobs/{match[1]}"


def expand_dataset(name: str) -> str:
    """Returns the wire's name of a data set from `datasets/{sha256}` or the hash. Raises ValueError if it is
    neither."""
    match = _DATASET.fullmatch(name)
    if match is None:
        raise ValueError(
            f"{name!r} is not valid: expected datasets/{{sha256}}, 64 hexadecimal digits in lower case"
        )
    return f"datasets/{match[1]}"


def _model_name(match: re.Match[str]) -> ModelName:
    model, version, alias = match.groups()
    return ModelName(model, int(version) if version else None, alias)
