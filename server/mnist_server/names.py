"""Names in requests: what a caller wrote, judged, with the field it was written in."""

from mnist_core import InvalidValue
from mnist_proto.names import ModelName, expand_dataset, expand_job, parse_model


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


def dataset_name(field: str, name: str) -> str:
    """Returns the data set that a field names. Raises InvalidValue."""
    try:
        return expand_dataset(name)
    except ValueError:
        raise InvalidValue(field, name, "datasets/{sha256}, 64 hexadecimal digits in lower case") from None


def page_number(token: str) -> int | None:
    """Returns where a page begins that a token of a number asks for; None is the first page. Raises
    InvalidValue."""
    if not token:
        return None
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidValue("page_token", token, "next_page_token of an earlier page")
    return int(token)


def page_size(size: int) -> int:
    """Returns how many a page is to hold. Raises InvalidValue."""
    if not 0 <= size <= 1000:
        raise InvalidValue("page_size", size, "1 to 1,000, or 0 for 100")
    return size or 100
