"""What the address of the page asks for: read strictly, so that every address means one thing.

?text=a red square    pictures nearest to a text
?like=17              pictures nearest to that of row 17
?upload=TOKEN         pictures nearest to one that was handed in
?key=000000017        pairs with that key or uid, or whose key begins so
&show=kept            kept, dropped or error; default: all
&reason=CODE          dropped for that reason first
&order=belief         nearest, belief (least believed first), cosine (own caption least near
                      first) or ledger
&page=2               from 1
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from winnow.explore.pairs import Outcome

Order = Literal["nearest", "belief", "cosine", "ledger"]

PAGE_SIZE = 48
"""Pairs of a page."""
NEAR = 192
"""Pairs nearest to a query that another order rearranges: four pages."""
MOST_TEXT = 4_000
"""Characters of a query."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_TOKEN = re.compile(r"[0-9a-f]{32}")
_NAMES = ("text", "like", "upload", "key")


class QueryError(ValueError):
    """The address asks for what does not exist; says what."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """One page of pairs; at most one of the first four is given."""

    text: str | None = None
    like: int | None = None
    """A row."""
    upload: str | None = None
    """The token of a picture that was handed in."""
    key: str | None = None
    show: Outcome | None = None
    """None is all."""
    reason: str | None = None
    order: Order = "ledger"
    page: int = 1

    @property
    def has_target(self) -> bool:
        """Whether there is something to be near to."""
        return (self.text, self.like, self.upload) != (None, None, None)


def read_query(parameters: Mapping[str, str]) -> Query:
    """The query of an address; empty values are absent ones. Raises QueryError."""
    given = {name: value for name, value in parameters.items() if value.strip()}
    targets = [name for name in _NAMES if name in given]
    if len(targets) > 1:
        raise QueryError(f"{' and '.join(targets)} cannot be asked for at once")
    for name in ("text", "key", "reason"):
        if len(given.get(name, "")) > MOST_TEXT:
            raise QueryError(f"{name} has more than {MOST_TEXT:,} characters")
    upload = given.get("upload")
    if upload is not None and not _TOKEN.fullmatch(upload):
        raise QueryError("upload is no token of a picture that was handed in")
    is_near = bool(targets) and targets != ["key"]
    order = _one_of(get_args(Order), given, "order") or ("nearest" if is_near else "ledger")
    if order == "nearest" and not is_near:
        order = "ledger"
    return Query(
        text=given.get("text"),
        like=read_number(given["like"], "like") if "like" in given else None,
        upload=upload,
        key=given.get("key"),
        show=_one_of(get_args(Outcome), given, "show"),  # type: ignore[arg-type]
        reason=given.get("reason"),
        order=order,  # type: ignore[arg-type]
        page=max(1, read_number(given["page"], "page")) if "page" in given else 1,
    )


def read_number(digits: str, name: str) -> int:
    """A number from 0 of at most nine digits, written in one way only. Raises QueryError."""
    # Not `int` alone, which takes "+1", "1_0", other alphabets' digits and a megabyte of them.
    if not _NUMBER.fullmatch(digits):
        raise QueryError(f"{name} must be a number from 0 of at most nine digits")
    return int(digits)


def _one_of(words: tuple[str, ...], given: Mapping[str, str], name: str) -> str | None:
    value = given.get(name)
    if value is not None and value not in words:
        raise QueryError(f"{name} must be one of {', '.join(words)}")
    return value
