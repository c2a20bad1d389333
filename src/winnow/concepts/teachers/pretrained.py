"""What a library of models gives: a module without its classifier, and the pixels it expects."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import nn

from winnow.types import InputError


class Pretrained(NamedTuple):
    """A model that turns normalised pictures (B, 3, image_size, image_size) into (B, F)."""

    module: nn.Module
    image_size: int
    mean: tuple[float, float, float]
    """Of pixels from 0 to 1, as `std`."""
    std: tuple[float, float, float]


@contextmanager
def weights_of(name: str, *, looked: str, instead: str) -> Iterator[None]:
    """Turn what loading `name` raises into one InputError: where was `looked`, what to do."""
    try:
        yield
    except InputError:
        raise
    # Libraries, hubs and their clients bring exceptions of their own (no connection, no such
    # file, another model's weights), few are OSErrors.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"the weights of teacher {name} cannot be loaded ({reason}): {looked}; {instead}"
        ) from error


def unknown(name: str, known: Iterable[str], *, library: str) -> InputError:
    """The error for a `name` that the library does not know."""
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.4)
    return InputError(f"{library} knows no model {name!r}; near it: {', '.join(near) or 'none'}")
