"""Fetches what the benchmark is made of, into a cache outside the tree: npm and Debian packages.

Nothing is installed on the machine, and what is in the cache is not fetched again.
"""

import gzip
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from winnow.progress import say_to_stderr
from winnow.types import InputError

NPM = {"@iconify/json": "2.2.535", "emojibase-data": "17.0.0"}
"""npm packages and the versions that are asked for."""
DEBIAN = {"openclipart-svg": 25, "tuxpaint-stamps-default": 161}
"""Debian packages, and about how many MB each is; the archive's version is what comes."""
_NPM_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--silent")


def npm_package(name: str, cache: Path) -> Path:
    """The folder of an npm package of `NPM` in the cache, fetched unless it is there."""
    version = NPM[name]
    home = cache / "npm" / f"{name.replace('/', '-')}-{version}"
    if not home.is_dir():
        say_to_stderr(f"fetching {name} {version} with npm")
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".npm-") as scratch:
            _run(
                "npm",
                "install",
                *_NPM_OPTIONS,
                "--prefix",
                scratch,
                f"{name}@{version}",
                place=scratch,
            )
            Path(scratch, "node_modules", name).rename(home)
    return home


def debian_package(name: str, cache: Path) -> Path:
    """The folder into which a package of `DEBIAN` was unpacked, fetched unless it is there."""
    home = cache / name
    if not home.is_dir():
        say_to_stderr(f"fetching {name} ({DEBIAN[name]} MB) from Debian's archive with apt-get")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".deb-") as scratch:
            _run("apt-get", "download", name, place=scratch)
            package = next(Path(scratch).glob("*.deb"))
            _run("dpkg-deb", "--extract", package.name, "content", place=scratch)
            Path(scratch, "content").rename(home)
    return home


def versions(cache: Path) -> dict[str, str]:
    """The version of each package, as it says itself; a Debian one by its changelog."""
    found = {}
    for name in NPM:
        about = json.loads((npm_package(name, cache) / "package.json").read_text("utf-8"))
        found[name] = str(about["version"])
    for name in DEBIAN:
        changes = debian_package(name, cache) / "usr" / "share" / "doc" / name
        with gzip.open(changes / "changelog.Debian.gz", "rt", encoding="utf-8") as lines:
            found[name] = re.findall(r"\((.*?)\)", next(lines))[0]
    return found


def _run(program: str, *arguments: str, place: str) -> None:
    path = shutil.which(program)
    if path is None:
        raise InputError(
            f"{program} is not on this machine, and the icons benchmark is made of packages that "
            "it fetches: install it (npm comes with Node.js, apt-get with Debian and Ubuntu), or "
            "unpack a folder that another machine packed, with --unpack"
        )
    done = subprocess.run([path, *arguments], cwd=place, capture_output=True, text=True)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InputError(f"{program} {' '.join(arguments)} failed: {why}")
