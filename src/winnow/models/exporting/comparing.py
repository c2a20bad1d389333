"""How far an export may be from its model: a hundred-thousandth of an embedding's length.

    d = max over rows of ‖x − y‖ / ‖x‖,    x the model's own embedding, y the export's

Embeddings are compared un-normalised, so a wrong length is a difference too.
"""

import math
from collections.abc import Mapping

from torch import Tensor

from winnow.types import InputError

TOLERANCE = 1e-5


def farthest(own_BD: Tensor, other_BD: Tensor) -> float:
    """The largest distance of a row from its own, as a part of its length; infinite for NaN."""
    if own_BD.shape != other_BD.shape:
        return math.inf
    distance_B = (own_BD.double() - other_BD.double()).norm(dim=1)
    worst = float((distance_B / own_BD.double().norm(dim=1)).max())
    return worst if math.isfinite(worst) else math.inf


def refuse_differences(export: str, differences: Mapping[str, float]) -> None:
    """Raise InputError where an export is not its model: it must not be used as if it were."""
    wrong = {what: size for what, size in differences.items() if not size <= TOLERANCE}
    if wrong:
        told = " and ".join(f"{what} by {size:.2g}" for what, size in wrong.items())
        raise InputError(
            f"the {export} export is not the model: loaded back, it differs in {told} (relative, "
            f"at most {TOLERANCE:g} is rounding), so nothing was written; please report this with "
            "the model's open_clip_config.json, and leave this format out"
        )
