"""What `winnow tasks` takes and does, and where evaluation sets are looked for.

A set is a folder of the root, ROOT/NAME, with or without the `wds_` of the hub's names. The
packaged sets are in the user's cache, where `winnow demo` builds them.
"""

import difflib
import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import tyro

from winnow.data.packaged import default_directory
from winnow.evaluation.sets.contents import SPLIT_NAMES
from winnow.evaluation.sets.evaluation_set import (
    MissingSetError,
    classnames_of,
    splits_of,
)
from winnow.evaluation.sets.pairs import is_source_spec
from winnow.evaluation.task_table import HUB_PREFIX, Task, bare_name, task_table
from winnow.recipes.packaged import CONFIG, packaged_data
from winnow.reports.evaluation_rows import metric_words
from winnow.reports.table import plain_table
from winnow.types import InputError

if TYPE_CHECKING:
    from rich.table import Table

ROOT_VARIABLE = "WINNOW_EVALUATION_SETS"


class Here(NamedTuple):
    """What there is of a set."""

    splits: tuple[str, ...] | None
    """None where there is no set, or it is broken."""
    broken: str | None = None
    """What is wrong with it."""
    num_classes: int | None = None
    """Where the table has a number of classes too."""


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The papers' tasks: how each is measured, which are here, and how to get the others."""

    root: Path | None = None
    """The folder of evaluation sets. Default: $WINNOW_EVALUATION_SETS, else in the user's cache."""
    suite: str | None = None
    """Only these: diht, imagenet-shifts, transfer, datacomp, packaged or fetched."""
    as_json: bool = False
    """Print every field of the table instead."""
    fetch: tuple[str, ...] = ()
    """Make sets of Debian packages first: fashion-mnist, tuxpaint."""
    debs: Annotated[tuple[Path, ...], tyro.conf.arg(name="from")] = ()
    """The packages to fetch from, where they are at hand; else apt-get downloads them."""

    def __post_init__(self) -> None:
        if self.debs and not self.fetch:
            raise InputError("--from is for --fetch: say which set the package is for")


def run_tasks(options: Tasks, *, say: Callable[..., None]) -> None:
    """Fetch what is asked for, then list the tasks."""
    root = options.root or evaluation_root()
    if options.fetch:
        _fetch(options, root, say)
        return
    tasks = _of_suite(options.suite)
    # Several tasks may be of one set, and to look at one may be to parse a hundred megabytes.
    here = {name: _look(name, root) for name in dict.fromkeys(task.set for task in tasks)}
    if options.as_json:
        rows = [_as_row(task, root, here[task.set]) for task in tasks]
        say(json.dumps(rows, indent=2, ensure_ascii=False), markup=False, highlight=False)
        return
    say(tasks_table(tasks, root, here))
    if options.suite is not None:
        suite = task_table().suites[options.suite]
        say(f"{suite.about} (confidence: {suite.confidence}); {suite.notes}", markup=False)
    for name, found in here.items():
        if found.broken:
            get = f"mend it, or get it again: {how_to_get(name, root)}"
            say(f"{name} is broken: {found.broken}; {get}", markup=False, highlight=False)
        elif found.splits is None:
            say(f"{name}: {how_to_get(name, root)}", markup=False, highlight=False)
        elif (wrong := _wrong_classes(name, found)) is not None:
            say(f"{name}: {wrong}", markup=False, highlight=False)


def evaluation_root() -> Path:
    """Where evaluation sets are unless the user says otherwise."""
    named = os.environ.get(ROOT_VARIABLE)
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "winnow" / "evaluation-sets"


def set_folder(root: Path, name: str) -> Path:
    """The folder of a set, there or not: ROOT/wds_X or ROOT/X, whichever exists."""
    bare = bare_name(name)
    places = (root / name, root / f"{HUB_PREFIX}{bare}", root / bare)
    return next((folder for folder in places if folder.is_dir()), root / name)


def resolve(names: Sequence[str], root: Path, *, must_exist: bool = False) -> dict[str, Path | str]:
    """Names of tasks, sets or suites, or paths: each set's name and its folder, there or not.

    A word of the table is meant before a folder of that name (`./NAME` is the folder), and a path
    before ROOT/NAME. Raises InputError for a name that is none of these, for two sets of one name
    and, where they `must_exist`, for paths that do not; sets of the table may be missing.
    """
    found: dict[str, Path | str] = {}
    for given in names:
        for name, place in _resolved(given, root, must_exist=must_exist).items():
            if _absolute(found.setdefault(name, place)) != _absolute(place):
                raise InputError(f"two tasks are called {name!r}: rename one of their folders")
    return found


def how_to_get(name: str, root: Path) -> str:
    """One line that says how to get a set of the table; a command where there is one."""
    task = task_table().of_set(name)[0]
    if task.origin == "hub":
        folder = shlex.quote(str(root / name))
        return f"hf download --repo-type dataset {task.source} --local-dir {folder}"
    if task.origin == "fetched":
        return f"winnow tasks --fetch {name} --root {shlex.quote(str(root))}"
    if task.origin == "packaged":
        return "winnow demo, or winnow evaluate MODEL --tasks packaged, builds it"
    return f"{task.source}; then {root / name}"


def present_splits(name: str, root: Path) -> tuple[str, ...] | None:
    """The splits of a set of the table that are there, not yet checked; None where it is not.

    Raises InputError where what is there is broken.
    """
    folder = _place(name, root)
    try:
        return splits_of(folder) if folder is not None else None
    except MissingSetError:
        return None


def tasks_table(tasks: Sequence[Task], root: Path, here: Mapping[str, Here]) -> "Table":
    """The tasks for the terminal; `here` is what there is of each set."""
    table = plain_table(f"tasks, and sets in {root}", show_edge=False)
    for title in ("task", "protocol", "metric"):
        table.add_column(title, no_wrap=True)
    for title in ("chance", "n", "K"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    for task in tasks:
        table.add_row(
            task.name,
            task.protocol,
            metric_words(task.metric),
            "" if task.chance is None else f"{100 * task.chance:.2f}",
            *(
                "" if count is None else f"{count:,}"
                for count in (task.num_samples, task.num_classes)
            ),
            _here_words(task, here[task.set]),
        )
    table.caption = "chance in %; n pictures of the test split and K classes, where known"
    return table


def _look(name: str, root: Path) -> Here:
    try:
        splits = present_splits(name, root)
        return Here(splits, num_classes=_num_classes(name, root, splits or ()))
    except InputError as error:
        return Here(None, str(error))


def _num_classes(name: str, root: Path, present: tuple[str, ...]) -> int | None:
    split = next((split for split in SPLIT_NAMES if split in present), None)
    place = _place(name, root)
    if _table_classes(name) is None or place is None or split is None:
        return None
    return len(classnames_of(place, split=split))


def _table_classes(name: str) -> int | None:
    return task_table().of_set(name)[0].num_classes


def _wrong_classes(name: str, here: Here) -> str | None:
    wanted = _table_classes(name)
    if here.num_classes in (None, wanted):
        return None
    return f"{here.num_classes:,} classes, not {wanted:,}: its numbers are not those of the task"


def _here_words(task: Task, here: Here) -> str:
    if here.broken:
        return "broken"
    if here.splits is None:
        return "no"
    is_other = here.num_classes not in (None, task.num_classes)
    return " ".join(here.splits) + (f" (K {here.num_classes:,})" if is_other else "")


def _fetch(options: Tasks, root: Path, say: Callable[..., None]) -> None:
    from winnow.recipes.fetched import PACKAGES, fetch

    for name in options.fetch:
        if name not in PACKAGES:
            raise InputError(f"{name!r} cannot be fetched; what can is {', '.join(PACKAGES)}")
    for name in options.fetch:
        if (root / name).exists():
            say(f"{name}: {root / name} is there already; delete it to make it again", markup=False)
            continue
        made = fetch(name, root, debs=options.debs, say=say)
        counts = ", ".join(f"{count:,} {split}" for split, count in made.counts.items())
        say(f"{name}: {counts}, in {made.folder}", markup=False)


def _of_suite(suite: str | None) -> tuple[Task, ...]:
    table = task_table()
    if suite is None:
        return table.tasks
    if suite not in table.suites:
        raise InputError(f"there is no suite {suite!r}; there are {', '.join(table.suites)}")
    return table.in_suite(suite)


def _as_row(task: Task, root: Path, here: Here) -> dict[str, object]:
    """All that the table says of a task, its chance, and what of its data is there."""
    get = None if here.splits is not None else how_to_get(task.set, root)
    present = {"present": here.splits, "broken": here.broken, "how_to_get": get}
    classes = {"present_classes": here.num_classes}
    return {**asdict(task), "chance": task.chance, **present, **classes}


def _absolute(place: Path | str) -> Path | str:
    return place.absolute() if isinstance(place, Path) else place


def _resolved(given: str, root: Path, *, must_exist: bool) -> Mapping[str, Path | str]:
    tasks = task_table().in_suite(given) or _called(given)
    if not tasks and "://" in given:
        return {given.rstrip("/").rpartition("/")[2]: given}
    if not tasks:
        path = _path(given, root, must_exist=must_exist)
        return {_name_of(path): path}
    packaged = any(task.origin == "packaged" for task in tasks)
    built = packaged_data().tasks if packaged else {}
    return {task.set: built.get(task.set) or set_folder(root, task.set) for task in tasks}


def _path(given: str, root: Path, *, must_exist: bool) -> Path:
    """The path itself; a bare name where no file has it may be a folder of the root."""
    path = Path(given)
    if path.exists():
        return path
    if os.sep not in given:
        if not set_folder(root, given).is_dir():
            raise InputError(_unknown(given, root))
        return set_folder(root, given)
    if must_exist and not is_source_spec(given):
        raise InputError(f"{given} does not exist: mend the path")
    return path


def _called(word: str) -> tuple[Task, ...]:
    """The tasks that a name means: a task's own, or that of its set."""
    table = task_table()
    return tuple(task for task in table.tasks if task.name == word) or table.of_set(word)


def _name_of(path: Path) -> str:
    whole = path.absolute()
    return whole.stem if whole.is_file() else whole.name


def _unknown(given: str, root: Path) -> str:
    table = task_table()
    words = {*table.suites, *(word for task in table.tasks for word in (task.name, task.set))}
    near = difflib.get_close_matches(given, sorted(words), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "`winnow tasks` lists the tasks"
    what = f"neither a task, a set or a suite, nor a file or folder, nor one of {root}"
    return f"{given!r} is {what}: {hint}"


def _place(name: str, root: Path) -> Path | None:
    if task_table().of_set(name)[0].origin == "packaged":
        return _packaged_folder(name)
    return set_folder(root, name)


def _packaged_folder(name: str) -> Path | None:
    """None where the packages that a packaged set is made of are not installed."""
    try:
        return default_directory(CONFIG) / "tasks" / name
    except InputError:
        return None
