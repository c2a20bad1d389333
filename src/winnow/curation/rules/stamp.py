"""When a file that a rule reads was last changed: what it was read as is kept until then."""

from pathlib import Path

from winnow.types import InputError


def stamp(path: Path, *, mend: str) -> tuple[int, int]:
    """Size and time of a file: another stamp, another file.

    Raises InputError where it cannot be read; `mend` says what writes such a file.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; {mend}") from error
    return facts.st_size, facts.st_mtime_ns
