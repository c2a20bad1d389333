"""How a model's pictures are resized: open_clip's preprocessing as a View."""

from typing import cast, get_args

from open_clip.transform import PreprocessCfg

from winnow.types import InputError, Interpolation, Resize, View


def view_of(preprocessing: PreprocessCfg, model: str) -> View:
    """The view that a preprocessing of open_clip asks for. Raises InputError for an unknown one."""
    size = preprocessing.size
    sides = {size} if isinstance(size, int) else set(size)
    if len(sides) != 1:
        raise InputError(
            f"{model} takes pictures of {' x '.join(map(str, size))}; winnow takes models of "
            "square pictures"
        )
    # open_clip's `random` is of training, and bicubic otherwise.
    interpolation = preprocessing.interpolation.replace("random", "bicubic")
    resize = preprocessing.resize_mode
    if resize not in get_args(Resize) or interpolation not in get_args(Interpolation):
        raise InputError(
            f"{model} resizes pictures by {resize!r} and {interpolation!r}; known are "
            f"{get_args(Resize)} and {get_args(Interpolation)}"
        )
    return View(
        sides.pop(),
        resize=cast(Resize, resize),
        interpolation=cast(Interpolation, interpolation),
        fill=preprocessing.fill_color,
    )
