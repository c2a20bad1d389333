"""Makes evaluation sets of two Debian packages, in clip-benchmark's webdataset layout.

`apt-get download` and `dpkg-deb` put a package's content into a temporary folder: nothing is
installed, no rights are needed. The set is written beside its place and moved there at the end, so
it is there whole or not at all. Tar members carry no time and no owner: the same package, Pillow
and resvg-py give the same bytes.
"""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from winnow.config import write_json
from winnow.progress import track
from winnow.recipes.fetched_pictures import (
    FASHION_CLASSES,
    FASHION_TEMPLATES,
    fashion_pictures,
    stamp_png,
    stamps,
)
from winnow.types import InputError

_SAMPLES_PER_TAR = 10_000
_SOURCE_FILE = "source.json"


class Fetched(NamedTuple):
    """A set that is there now."""

    folder: Path
    counts: dict[str, int]
    """Pictures by split."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A Debian package that a set can be made of."""

    name: str
    content: str
    """The folder in it that is read."""
    megabytes: int
    write: Callable[[Path, Path], dict[str, int]]
    """`write(content, folder)` writes the set and counts its pictures by split."""


class _Sample(NamedTuple):
    key: str
    parts: tuple[tuple[str, bytes], ...]
    """Suffix and bytes, in the order of the tar."""


def fetch(name: str, root: Path, *, debs: Sequence[Path] = (), say: Callable[..., None]) -> Fetched:
    """Make `root/name`, from the package among `debs` or else from Debian's archive.

    Raises InputError where the package cannot be had or is not what it should be, and where
    something is in the way.
    """
    package, folder = PACKAGES[name], root / name
    if folder.exists():
        raise InputError(f"{folder} is there already: delete it to make it again")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".fetch-") as scratch:
        place = Path(scratch)
        if debs:
            deb = _among(debs, package.name)
        else:
            say(
                f"{name}: downloading {package.name} ({package.megabytes} MB) from Debian's archive"
            )
            deb = _download(package.name, place)
        _run("dpkg-deb", "--extract", str(deb), str(place / "content"))
        content = place / "content" / package.content
        if not content.is_dir():
            raise InputError(f"{deb} has no folder {package.content}: it is another {package.name}")
        counts = package.write(content, place / "whole")
        write_json(place / "whole" / _SOURCE_FILE, _source(deb))
        (place / "whole").rename(folder)
    return Fetched(folder, counts)


def write_fashion_mnist(content: Path, folder: Path) -> dict[str, int]:
    """Both splits of Fashion-MNIST with their labels; returns how many pictures each has."""
    counts = {}
    for split in ("train", "test"):
        counts[split], pictures = fashion_pictures(content, split)
        samples = (
            _Sample(f"s{number:07d}", (("png", png), ("cls", str(label).encode())))
            for number, (png, label) in enumerate(pictures)
        )
        _write_split(folder / split, samples, total=counts[split], what=f"fashion-mnist {split}")
    _write_lines(folder / "classnames.txt", FASHION_CLASSES)
    _write_lines(folder / "zeroshot_classification_templates.txt", FASHION_TEMPLATES)
    return counts


def write_tuxpaint(content: Path, folder: Path) -> dict[str, int]:
    """Tux Paint's stamps with their English sentence, for retrieval; returns how many there are."""
    found = stamps(content)
    if not found:
        raise InputError(f"{content} holds no stamp with a sentence")
    samples = (
        _Sample(stamp.key, (("png", stamp_png(stamp)), ("txt", stamp.sentence.encode())))
        for stamp in found
    )
    _write_split(folder / "test", samples, total=len(found), what="tuxpaint")
    _write_lines(folder / "dataset_type.txt", ("retrieval",))
    return {"test": len(found)}


PACKAGES: dict[str, Package] = {
    "fashion-mnist": Package(
        name="dataset-fashion-mnist",
        content="usr/share/datasets/fashion-mnist",
        megabytes=31,
        write=write_fashion_mnist,
    ),
    "tuxpaint": Package(
        name="tuxpaint-stamps-default",
        content="usr/share/tuxpaint/stamps",
        megabytes=161,
        write=write_tuxpaint,
    ),
}
"""What `winnow tasks --fetch` knows."""


def _write_split(folder: Path, samples: Iterator[_Sample], *, total: int, what: str) -> None:
    folder.mkdir(parents=True)
    num_tars = -(-total // _SAMPLES_PER_TAR)
    with track(what, total=total, unit="pictures") as advance:
        for number in range(num_tars):
            size = min(_SAMPLES_PER_TAR, total - number * _SAMPLES_PER_TAR)
            with tarfile.open(folder / f"{number}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for _ in range(size):
                    _add(tar, next(samples))
                    advance()
    _write_lines(folder / "nshards.txt", (str(num_tars),))


def _add(tar: tarfile.TarFile, sample: _Sample) -> None:
    for suffix, content in sample.parts:
        header = tarfile.TarInfo(f"{sample.key}.{suffix}")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _download(package: str, place: Path) -> Path:
    _run("apt-get", "download", package, place=place)
    return next(place.glob("*.deb"))


def _among(debs: Sequence[Path], package: str) -> Path:
    for deb in debs:
        if not deb.is_file():
            raise InputError(f"{deb} is not there: --from takes .deb files")
        if _field(deb, "Package") == package:
            return deb
    raise InputError(f"none of {', '.join(map(str, debs))} is the Debian package {package}")


def _source(deb: Path) -> dict[str, str]:
    return {
        "package": _field(deb, "Package"),
        "version": _field(deb, "Version"),
        "sha256": hashlib.sha256(deb.read_bytes()).hexdigest(),
    }


def _field(deb: Path, name: str) -> str:
    return _run("dpkg-deb", "--field", str(deb), name).strip()


def _run(program: str, *arguments: str, place: Path | None = None) -> str:
    """What the program prints. Raises InputError where it is missing or fails."""
    found = shutil.which(program)
    if found is None:
        raise InputError(
            f"{program} is not on this machine: fetching needs Debian's or Ubuntu's tools (with "
            "--from and a .deb, dpkg-deb is enough)"
        )
    done = subprocess.run(  # noqa: S603 - a fixed program, and paths as single arguments
        [found, *arguments], cwd=place, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(
            f"{program} {' '.join(arguments)} failed: {why}; `apt-get update` may help, or give "
            "the .deb with --from"
        )
    return done.stdout
