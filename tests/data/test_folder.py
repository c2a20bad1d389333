import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data.folder import Folder, local_copy
from winnow.types import InputError


def empty_memory() -> fsspec.AbstractFileSystem:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]
    return memory


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path) -> Folder:
    """A folder that is not there yet, on the disk and in fsspec's memory."""
    if request.param == "local":
        return Folder.at(tmp_path / "a" / "out")
    empty_memory()
    return Folder.at("memory://a/out")


def files_below(folder: Folder) -> list[str]:
    """Every file below the folder, those under other names too."""
    if folder.is_remote:
        return sorted(fsspec.filesystem("memory").store)
    return sorted(str(path) for path in folder.path.rglob("*") if path.is_file())


def test_what_is_written_is_read(folder):
    folder.write("b.json", b"{}")
    folder.write("a.bin", bytes(range(256)))
    (folder / "sub").write("c", b"c")
    assert folder.names() == ["a.bin", "b.json"]
    assert folder.folders() == ["sub"]
    assert (folder / "sub").names() == ["c"]
    assert folder.read("a.bin") == bytes(range(256))
    assert [folder.exists(name) for name in ("a.bin", "sub", "c", "none")] == [
        True,
        True,
        False,
        False,
    ]
    with folder.open("a.bin") as file:
        file.seek(250)
        assert file.read() == bytes(range(250, 256))


def test_a_folder_that_is_not_there_is_empty(folder):
    assert (folder.names(), folder.folders(), folder.exists("x")) == ([], [], False)
    folder.remove("x")
    folder.remove_tree()
    folder.sweep()
    with pytest.raises(FileNotFoundError, match="out/x"):
        folder.read("x")
    with pytest.raises(FileNotFoundError, match="out/x"), folder.open("x"):
        pass


def test_writing_replaces_and_leaves_one_file(folder):
    folder.write("x", b"old and long")
    folder.write("x", b"new")
    assert folder.read("x") == b"new"
    assert len(files_below(folder)) == 1


def test_a_block_that_fails_leaves_what_was_there(folder):
    folder.write("x", b"old")
    for name in ("x", "y"):
        with pytest.raises(KeyboardInterrupt), folder.writing(name) as path:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
    assert folder.names() == ["x"]
    assert folder.read("x") == b"old"
    assert len(files_below(folder)) == 1


def test_nothing_is_seen_before_the_block_ends(folder):
    with folder.writing("x") as path:
        path.write_bytes(b"whole")
        assert not folder.exists("x")
        assert folder.names() == []
    assert folder.read("x") == b"whole"


def test_the_last_of_two_writers_at_once_stays(folder):
    with folder.writing("x") as first:
        first.write_bytes(b"first")
        with folder.writing("x") as second:
            second.write_bytes(b"second")
        assert folder.read("x") == b"second"
    assert folder.read("x") == b"first"
    assert len(files_below(folder)) == 1


def test_parquet_is_written_and_read(folder):
    table = pa.table({"uid": [f"{n:032x}" for n in range(5000)], "n": range(5000)})
    with folder.writing("x.parquet") as path:
        pq.write_table(table, path, row_group_size=1000)
    with folder.open("x.parquet") as file:
        parquet = pq.ParquetFile(file)
        assert parquet.read_row_group(3) == table.slice(3000, 1000)
        assert parquet.read() == table


def test_rename_replaces(folder):
    folder.write("a", b"a")
    folder.write("b", b"b")
    folder.rename("a", "b")
    assert folder.names() == ["b"]
    assert folder.read("b") == b"a"
    with pytest.raises(FileNotFoundError):
        folder.rename("none", "c")


def test_remove_takes_one_file_and_remove_tree_all(folder):
    folder.write("a", b"a")
    folder.write("b", b"b")
    (folder / "sub" / "deep").write("c", b"c")
    folder.remove("a")
    assert folder.names() == ["b"]
    (folder / "sub").remove_tree()
    assert folder.folders() == []
    folder.remove_tree()
    assert files_below(folder) == []


def test_a_folder_is_a_value_that_travels(folder):
    assert pickle.loads(pickle.dumps(folder)) == folder == Folder.at(folder)  # noqa: S301
    assert hash(folder) == hash(Folder.at(folder.url))
    assert str(folder / "sub") == f"{folder.url}/sub"


def test_places_are_absolute_and_without_a_last_slash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = Folder.at(tmp_path / "out")
    for place in ("out", "./out/", Path("x/../out"), f"file://{tmp_path}/out"):
        assert Folder.at(place) == here
    assert here.path == tmp_path / "out"
    assert not here.is_remote
    assert Folder.at("memory://a/b//") == Folder.at("memory://a/b")
    with pytest.raises(InputError, match="memory://a/b is not on this machine"):
        _ = Folder.at("memory://a/b").path


@pytest.mark.parametrize("place", ["nosuchprotocol://x/y", "memory://", "simplecache::memory://x"])
def test_a_place_that_cannot_be_written_to_is_refused_by_name(place):
    with pytest.raises(InputError, match=place):
        Folder.at(place)


def entries(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


class BrokenStore(fsspec.AbstractFileSystem):
    """A store that fails as clients of stores do: with an exception of its own."""

    protocol = "brokenstore"

    def _fail(self, *args, **options):
        raise RuntimeError("no credentials")

    ls = info = cat_file = put_file = rm = rm_file = mv = _open = _fail


def test_errors_of_a_store_name_the_url():
    fsspec.register_implementation("brokenstore", BrokenStore, clobber=True)
    folder = Folder.at("brokenstore://bucket/out")
    calls = [
        lambda: folder.read("x"),
        lambda: folder.open("x").__enter__(),
        lambda: folder.write("x", b"x"),
        lambda: folder.exists("x"),
        lambda: folder.remove("x"),
        lambda: folder.rename("x", "y"),
        folder.names,
        folder.folders,
        folder.remove_tree,
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"brokenstore://bucket/out.*no credentials"):
            call()


def write_many(place: str, letter: str, start) -> None:
    """Write one name again and again, as another process does."""
    start.wait()
    for _ in range(50):
        Folder.at(place).write("x", letter.encode() * 100_000)


def test_two_processes_write_one_name_and_it_is_whole_whenever_it_is_read(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    writers = [
        context.Process(target=write_many, args=(str(tmp_path), letter, start)) for letter in "ab"
    ]
    for writer in writers:
        writer.start()
    start.wait()
    folder, seen = Folder.at(tmp_path), set()
    while any(writer.is_alive() for writer in writers):
        if folder.exists("x"):
            seen.add(folder.read("x"))
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert seen | {folder.read("x")} <= {b"a" * 100_000, b"b" * 100_000}
    assert entries(tmp_path) == ["x"]


def test_sweep_removes_what_killed_writers_left_and_nothing_else(tmp_path):
    script = (
        "import sys, threading\n"
        "from winnow.data.folder import Folder\n"
        "with Folder.at(sys.argv[1]).writing('x') as path:\n"
        "    path.write_bytes(b'half')\n"
        "    print('written', flush=True)\n"
        "    threading.Event().wait()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "written\n"
    folder = Folder.at(tmp_path)
    folder.sweep()
    assert len(entries(tmp_path)) == 1
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=60)
    assert folder.names() == []
    ours = tmp_path / f".y.00000000-{os.getpid()}-{socket.gethostname()}.partial"
    theirs = tmp_path / ".y.00000000-1-another.host.partial"
    old = tmp_path / ".z.00000000-1-another.host.partial"
    for path in (ours, theirs, old, tmp_path / "x.partial", tmp_path / ".hidden"):
        path.write_bytes(b"")
    os.utime(old, (1, 1))
    folder.sweep()
    assert entries(tmp_path) == sorted([ours.name, theirs.name, "x.partial", ".hidden"])


def test_a_local_copy_of_a_local_file_is_the_file(tmp_path):
    with local_copy(str(tmp_path / "0.tar")) as path:
        assert path == str(tmp_path / "0.tar")


def test_a_local_copy_of_a_remote_file_goes_with_the_block():
    memory = empty_memory()
    memory.pipe("/data/0.tar", b"bytes")
    with local_copy("memory://data/0.tar") as path:
        assert Path(path).name == "0.tar"
        assert Path(path).read_bytes() == b"bytes"
    assert not Path(path).exists()
    with (
        pytest.raises(InputError, match=r"memory://data/1\.tar"),
        local_copy("memory://data/1.tar"),
    ):
        pass
