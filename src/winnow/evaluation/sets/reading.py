"""One reading of a split from end to end: is it whole, how much is it, and what is its fingerprint.

It holds one picture at a time, and of the others their keys.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from winnow.evaluation.sets.contents import Contents, Sample
from winnow.progress import track
from winnow.types import InputError

_LONG_BYTES = 200_000_000
"""Reading less takes a second or two, and needs no bar."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What one reading says of a split."""

    num_samples: int
    fewest_captions: int
    """Of any one picture; so is the next."""
    most_captions: int
    has_statements: bool
    fingerprint: str
    """sha256 over every sample's key, picture, labels, captions, statements and answer, in order:
    the same however the samples are spread over files. Not over class names and prompts."""


def read_through(contents: Contents, *, what: str, sizes: Mapping[str, int]) -> Findings:
    """Read every picture once. `sizes` has bytes by file, for the bar; `what` names the split.

    Raises InputError where the split is not whole, naming the first sample that is not.
    """
    keys: set[str] = set()
    captions: set[int] = set()
    num_captioned, has_statements, digest = 0, False, hashlib.sha256()
    with _progress(contents, what=what, size=sum(sizes.values())) as advance:
        for sample in contents.read():
            where = f"{what}, sample {sample.key}"
            if sample.key in keys:
                raise InputError(f"{where} occurs twice: every picture needs a key of its own")
            keys.add(sample.key)
            _check(sample, where=where)
            content = hashlib.sha256(sample.image).hexdigest()
            digest.update(repr((sample.key, content, *sample[2:])).encode())
            captions.add(len(sample.captions))
            num_captioned += bool(sample.captions)
            has_statements |= bool(sample.statements)
            advance(sample)
    findings = Findings(
        num_samples=len(keys),
        fewest_captions=min(captions, default=0),
        most_captions=max(captions, default=0),
        has_statements=has_statements,
        fingerprint=digest.hexdigest(),
    )
    _check_whole(contents, findings, num_captioned=num_captioned, what=what)
    return findings


@contextmanager
def _progress(contents: Contents, *, what: str, size: int) -> Iterator[Callable[[Sample], None]]:
    """Counts pictures where their number is known, and their bytes where it is not."""
    if size < _LONG_BYTES:
        yield lambda sample: None
        return
    if contents.num_samples:
        with track(f"checking {what}", total=contents.num_samples, unit="pictures") as advance:
            yield lambda sample: advance()
        return
    with track(f"checking {what}", total=size, unit="bytes") as advance:
        seen = 0

        def advance_by(sample: Sample) -> None:
            nonlocal seen
            seen += len(sample.image)
            advance(len(sample.image))

        yield advance_by
        advance(size - seen)  # what is not pictures: headers, labels, captions


def _check(sample: Sample, *, where: str) -> None:
    if not sample.image:
        raise InputError(f"{where} has an empty picture: its file holds no byte")
    try:
        for text in (sample.key, *sample.captions, *sample.statements):
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where} has a text that is no valid Unicode: {error}") from error


def _check_whole(contents: Contents, findings: Findings, *, num_captioned: int, what: str) -> None:
    n = findings.num_samples
    if n == 0:
        raise InputError(f"{what} holds no picture")
    if num_captioned not in (0, n):
        raise InputError(
            f"{what}: only {num_captioned} of {n} pictures have a caption; retrieval needs one for "
            "each, zero-shot needs none"
        )
    if contents.label_kind == "none" and not num_captioned and not findings.has_statements:
        raise InputError(
            f"{what} has neither labels (.cls and classnames.txt) nor captions (.txt): there is "
            "nothing to compare a model's answers with"
        )
