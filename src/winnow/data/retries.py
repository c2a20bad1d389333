"""Requests to a store, made again where another try may help.

Stores raise errors of their own making, and few say whether they pass. So what is known to stay is
raised at once (no such file, no permission, a status of 4xx), and anything else is tried again.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from winnow.types import InputError

RETRIES = 3
"""Tries after the first."""

_FIRST_WAIT_SECONDS = 1.0
_GROWTH = 4.0
_STAYING = (
    *(FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError),
    *(ImportError, NotImplementedError, TypeError, ValueError),
)
_PASSING_STATUS = (408, 429)  # too slow, too many

Answer = TypeVar("Answer")


def retried(
    request: Callable[[], Answer],
    *,
    url: str,
    retries: int = RETRIES,
    sleep: Callable[[float], None] | None = None,
) -> Answer:
    """What `request` returns, after up to `retries` more tries: 1, 4, 16 s after one another.

    Raises what it raises where that stays, and an InputError that names `url` where all tries
    failed. `sleep` is `time.sleep` where none is given.
    """
    for number in range(retries + 1):
        try:
            return request()
        # Every store brings exceptions of its own (no connection, slow down), few are OSErrors.
        except Exception as error:
            if _stays(error):
                raise
            if number == retries:
                detail = str(error) or type(error).__name__
                raise InputError(
                    f"{url} cannot be read, after {retries + 1} tries: {detail}; see whether the "
                    "store can be reached, and start again"
                ) from error
            (sleep or time.sleep)(_FIRST_WAIT_SECONDS * _GROWTH**number)
    raise AssertionError("the last try returns or raises")


def is_missing(error: BaseException) -> bool:
    """Whether it says that there is no such file, be it as the cause of an InputError."""
    return isinstance(_origin(error), FileNotFoundError)


def _stays(error: BaseException) -> bool:
    error = _origin(error)
    status = _status(error)
    if status is not None and 400 <= status < 500:
        return status not in _PASSING_STATUS
    return isinstance(error, _STAYING) and status is None


def _origin(error: BaseException) -> BaseException:
    if isinstance(error, InputError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _status(error: Any) -> int | None:
    """The HTTP status that an error of aiohttp, gcsfs, azure or botocore carries."""
    for name in ("status", "code", "status_code"):
        if isinstance(getattr(error, name, None), int):
            return getattr(error, name)
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return getattr(response, "status_code", None)
