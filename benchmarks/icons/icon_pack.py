"""One file that carries the benchmark to a machine without a network.

The folders of swapped captions and what is true of them are left out of it: they hold the same
pictures again, and are written anew at `unpack`, from `train/` and the seed.
"""

import json
import shutil
import tarfile
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from icon_files import pair_members, read_members, write_tar, write_truth
from icon_sizes import NOISES
from icon_swaps import swapped

from winnow.config import read_json
from winnow.types import InputError

_PRESET = 6  # of xz; 9 takes an eighth more time for one per cent less


def noise_folder(percent: int) -> str:
    """The folder of the pairs of which so many per cent have swapped captions."""
    return f"noise-{percent}"


def write_noise(directory: Path, percent: int, *, seed: int) -> None:
    """Write the folder of swapped captions and its truth, from `train/` and its truth."""
    name = noise_folder(percent)
    truth = pq.read_table(directory / "truth" / "train.parquet", columns=["uid", "caption"])
    uids, own = (truth[column].to_pylist() for column in truth.column_names)
    moved, is_swapped = swapped(own, share=percent / 100, seed=seed)
    rows = [
        {"uid": uid, "caption": now, "own_caption": before, "is_swapped": bool(is_it)}
        for uid, now, before, is_it in zip(uids, moved, own, is_swapped, strict=True)
    ]
    write_truth(directory / "truth" / f"{name}.parquet", rows)
    captions = dict(zip(uids, moved, strict=True))
    for shard in sorted((directory / "train").glob("*.tar")):
        members = []
        for key, png, uid in _pictures(shard):
            members += pair_members(key, png, captions[uid], uid)
        write_tar(directory / name / shard.name, members)


def pack(directory: Path, file: Path) -> int:
    """Write the benchmark in `directory` to `file`, a tar.xz; returns its bytes."""
    left_out = [noise_folder(percent) for percent in NOISES]
    left_out += [f"truth/{name}.parquet" for name in left_out]
    partial = file.with_name(file.name + ".partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(partial, "w:xz", preset=_PRESET, format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_file() and not name.startswith(tuple(left_out)):
                header = tarfile.TarInfo(name)
                header.size = path.stat().st_size
                with path.open("rb") as content:
                    archive.addfile(header, content)
    partial.replace(file)
    return file.stat().st_size


def unpack(file: Path, directory: Path) -> None:
    """The benchmark in `file`, whole again in `directory`.

    Raises InputError where `file` is no such archive, or something is in the way.
    """
    if directory.exists():
        raise InputError(f"{directory} is there already: delete it, or name a new folder")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".icons-") as scratch:
        whole = Path(scratch) / "whole"
        try:
            with tarfile.open(file, "r:xz") as archive:
                _extract(archive, whole, file)
        except (OSError, EOFError, tarfile.TarError) as error:
            raise InputError(f"{file} is no archive that --pack wrote: {error}") from error
        if not (whole / "manifest.json").is_file():
            raise InputError(f"{file} has no manifest.json: it is no archive that --pack wrote")
        seed = read_json(whole / "manifest.json")["identity"]["seed"]
        for percent in NOISES:
            write_noise(whole, percent, seed=seed)
        whole.rename(directory)


def _extract(archive: tarfile.TarFile, folder: Path, file: Path) -> None:
    """Plain files within `folder`, as `pack` puts them in; Python before 3.11.4 has no filters."""
    for member in archive:
        path = folder / member.name
        content = archive.extractfile(member) if member.isfile() else None
        if content is None or ".." in path.parts or not path.is_relative_to(folder):
            raise InputError(f"{file}: {member.name!r} is nothing that --pack wrote")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            shutil.copyfileobj(content, out)


def _pictures(shard: Path) -> list[tuple[str, bytes, str]]:
    """Key, png and uid of each pair of a shard."""
    members = iter(read_members(shard))
    found = []
    for (name, png), _, (_, facts) in zip(members, members, members, strict=True):
        found.append((name.removesuffix(".png"), png, json.loads(facts)["uid"]))
    return found
