"""A few real pictures: drawings of the packaged vendors, and a photograph."""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from winnow.data.images import View, evaluation_view
from winnow.data.packaged.raster import rasterise
from winnow.data.packaged.vendors import twemoji_drawings


def real_pictures(side):
    """uint8 (6, 3, side, side)."""
    drawings = [rasterise(drawing, side=256).png for drawing in twemoji_drawings()[100:600:100]]
    package = Path(importlib.util.find_spec("matplotlib").origin).parent
    photograph = (package / "mpl-data" / "sample_data" / "grace_hopper.jpg").read_bytes()
    views = [evaluation_view(data, view=View(side)) for data in (*drawings, photograph)]
    return torch.from_numpy(np.stack(views))
