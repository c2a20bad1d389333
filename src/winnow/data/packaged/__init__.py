"""The packaged data: real emoji and icons of several vendors, from installed packages, as shards.

Training pairs come from OpenMoji and from icon sets; two vendors, Twemoji and the monochrome Noto
font, are never trained on and measure how far a model carries to a style it has not seen.
"""

from winnow.data.packaged.build import Packaged, PackagedConfig, build, default_directory
from winnow.data.packaged.noise import NO_NOISE, Noise, NoiseRates

__all__ = [
    "NO_NOISE",
    "Noise",
    "NoiseRates",
    "Packaged",
    "PackagedConfig",
    "build",
    "default_directory",
]
