"""What every part of winnow shares: tensor dimensions, errors a user can mend, the stop, views.

Dimension legend. A tensor's name ends in its dimensions, in order (`image_BD`, `logits_CN`):

    B  pairs of this rank's batch         N  pairs of the global batch
    C  rows of one block of the batch     D  embedding width
    K  classes, or entries per row        T  tokens of a caption
    H  image height, W image width        3  colour channels (in `BCHW`, C is those)

In `hidden_BH` and `hidden_NH`, H is the width of features before the projection.
"""

from typing import Literal, NamedTuple

Resize = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]


class View(NamedTuple):
    """How a model sees a whole picture, in the words of open_clip's preprocessing."""

    size: int
    """Side of the square, in pixels."""
    resize: Resize = "shortest"
    """Which side becomes `size`: the shortest, the centre being cut out; the longest, what is
    missing being filled; or both, whatever the picture's shape."""
    interpolation: Interpolation = "bicubic"
    fill: int = 0
    """The grey, 0 to 255, beside a picture whose longest side is `size`."""


class InputError(ValueError):
    """Something the user gave is wrong: says what, where (file, key, field) and how to mend it.

    The command line prints it as one sentence and exits with status 2; nothing is half-written.
    """


class ToldByAnotherError(InputError):
    """An error that another process of the same run has, and tells the user of."""


class Interrupted(KeyboardInterrupt):
    """Stopped on request by `signal_number`, in a state that the same command goes on from."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number

    @property
    def status(self) -> int:
        """What a process ends with."""
        return 128 + self.signal_number


class OutOfTime(Interrupted):
    """A run's own time limit has stopped it, in a state that the same command goes on from."""

    def __init__(self, message: str) -> None:
        super().__init__(message, 0)

    @property
    def status(self) -> int:
        """EX_TEMPFAIL of sysexits.h, so that a job script knows to go on."""
        return 75
