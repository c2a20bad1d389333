"""What every part of winnow shares: tensor dimensions, errors a user can mend, the stop.

Dimension legend. A tensor's name ends in its dimensions, in order (`image_BD`, `logits_CN`):

    B  pairs of this rank's batch         N  pairs of the global batch
    C  rows of one block of the batch     D  embedding width
    K  classes, or entries per row        T  tokens of a caption
    H  image height, W image width        3  colour channels (in `BCHW`, C is those)
"""


class InputError(ValueError):
    """Something the user gave is wrong: says what, where (file, key, field) and how to mend it.

    The command line prints it as one sentence and exits with status 2; nothing is half-written.
    """


class Interrupted(KeyboardInterrupt):
    """Stopped on request by `signal_number`, in a state that the same command goes on from."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
