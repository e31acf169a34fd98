"""Names in requests: what a caller wrote, judged, with the field it was written in."""

from mnist_core import InvalidValue
from mnist_proto.names import ModelName, expand_job, parse_model


def model_name(field: str, name: str) -> ModelName:
    """Returns the model that a field names. Raises InvalidValue."""
    try:
        return parse_model(name)
    except ValueError:
        expected = "models/{m}, models/{m}/versions/{n} or models/{m}/aliases/{a}"
        raise InvalidValue(field, name, expected) from None


def job_name(name: str) -> str:
    """Returns the job that the field `job` names. Raises InvalidValue."""
    try:
        return expand_job(name)
    except ValueError:
        raise InvalidValue("job", name, "jobs/{j}") from None


def page_size(size: int) -> int:
    """Returns how many a page is to hold. Raises InvalidValue."""
    if not 0 <= size <= 1000:
        raise InvalidValue("page_size", size, "1 to 1,000, or 0 for 100")
    return size or 100
