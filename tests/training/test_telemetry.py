"""The rows of a run where people look at them: real event files, a real W&B process, offline."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from winnow.training import telemetry as telemetry_module
from winnow.training.health import Finding
from winnow.training.metrics import read_metrics
from winnow.training.telemetry import Telemetry, refuse_missing_sinks
from winnow.types import InputError

CONFIG = {"objective": {"kind": "InfoNCE"}, "batch_size": 64}


def go(run, steps, *, resumed_at=0, sinks=(), loss=lambda step: 1 / step):
    with Telemetry(run, resumed_at=resumed_at, sinks=sinks, config=CONFIG) as telemetry:
        for step in steps:
            telemetry.append(step, {"loss": loss(step), "source/a b/loss": 2.0})


def tensorboard(run):
    """What TensorBoard shows: (step, value) of every curve."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(run / "tensorboard"))
    shown.Reload()
    return {
        name: [(event.step, event.value) for event in shown.Scalars(name)]
        for name in shown.Tags()["scalars"]
    }


def weights_and_biases(run):
    """(step, loss) of every row in the files that would be sent, start by start."""
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    # Ends the process that writes the files: only then are they whole.
    wandb.teardown()
    found = []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.parent.name):
        store = DataStore()
        store.open_for_scan(str(path))
        rows = []
        while (data := store.scan_data()) is not None:
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {
                    item.key or item.nested_key[0]: json.loads(item.value_json)
                    for item in record.history.item
                }
                rows.append((items["_step"], items["loss"]))
        found.append((path.stem, rows))
    return found


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    # By it a process would find the server that another one started.
    monkeypatch.delenv("WANDB_SERVICE", raising=False)


def test_every_row_is_in_the_file_and_every_finding_beside_it(tmp_path):
    finding = Finding(rule="collapsed", step=20, sentence="step 20: flat", begins=True)
    with Telemetry(tmp_path, resumed_at=0, config=CONFIG) as telemetry:
        telemetry.append(10, {"loss": 1.0})
        telemetry.append(20, {"loss": math.nan})
        telemetry.record([finding])
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20]
    assert json.loads((tmp_path / "health.jsonl").read_text()) == {
        "step": 20,
        "rule": "collapsed",
        "event": "began",
        "sentence": "step 20: flat",
    }
    # A resumed run that was killed before that has not said it.
    with Telemetry(tmp_path, resumed_at=10, config=CONFIG):
        pass
    assert (tmp_path / "health.jsonl").read_text() == ""
    assert [row["step"] for row in read_metrics(tmp_path)] == [10]


def test_other_ranks_write_nothing(tmp_path, monkeypatch):
    rank = telemetry_module.world().__class__(rank=1, size=2)
    monkeypatch.setattr(telemetry_module, "world", lambda: rank)
    with Telemetry(tmp_path, resumed_at=0, sinks=["tensorboard"], config=CONFIG) as telemetry:
        telemetry.append(10, {"loss": 1.0})
        telemetry.record([Finding(rule="collapsed", step=1, sentence="", begins=True)])
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_shows_every_row_once_after_resuming(tmp_path):
    go(tmp_path, [10, 20, 30, 40], sinks=["tensorboard"], loss=lambda step: -step)
    go(tmp_path, [30, 40, 50], resumed_at=20, sinks=["tensorboard"], loss=lambda step: step)
    expected = [(10, -10), (20, -20), (30, 30), (40, 40), (50, 50)]
    shown = tensorboard(tmp_path)
    assert shown["loss"] == expected
    assert [step for step, _ in shown["source/a b/loss"]] == [10, 20, 30, 40, 50]
    # A second start in a row, from before the first one.
    go(tmp_path, [20], resumed_at=10, sinks=["tensorboard"], loss=lambda step: 7)
    assert tensorboard(tmp_path)["loss"] == [(10, -10), (20, 7)]


def test_tensorboard_shows_it_once_where_the_clock_was_put_back(tmp_path, monkeypatch):
    go(tmp_path, [10, 20, 30], sinks=["tensorboard"], loss=lambda step: -step)
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    go(tmp_path, [20, 30], resumed_at=10, sinks=["tensorboard"], loss=lambda step: step)
    assert tensorboard(tmp_path)["loss"] == [(10, -10), (20, 20), (30, 30)]


def test_tensorboard_has_every_row_at_once_in_case_the_run_is_killed(tmp_path):
    with Telemetry(tmp_path, resumed_at=0, sinks=["tensorboard"], config=CONFIG) as telemetry:
        telemetry.append(10, {"loss": 1.0})
        assert tensorboard(tmp_path)["loss"] == [(10, 1.0)]
        telemetry.append(20, {"loss": 2.0})
        assert tensorboard(tmp_path)["loss"] == [(10, 1.0), (20, 2.0)]


@pytest.mark.slow
def test_a_sink_that_is_asked_for_later_gets_the_rows_of_before(tmp_path, offline):
    go(tmp_path, [10, 20, 30])
    go(tmp_path, [30, 40], resumed_at=20, sinks=["tensorboard", "wandb"])
    steps = [10, 20, 30, 40]
    assert [step for step, _ in tensorboard(tmp_path)["loss"]] == steps
    ((_, sent),) = weights_and_biases(tmp_path)
    assert [step for step, _ in sent] == steps


def test_numbers_that_are_not_finite_are_not_shown(tmp_path):
    go(tmp_path, [1, 2], sinks=["tensorboard"], loss=lambda step: math.inf if step == 1 else 3.0)
    assert tensorboard(tmp_path)["loss"] == [(2, 3.0)]


def test_weights_and_biases_is_sent_every_row_once(tmp_path, offline):
    go(tmp_path, [10, 20, 30, 40], sinks=["wandb"])
    go(tmp_path, [30], resumed_at=20, sinks=["wandb"])
    # Steps 30 and 40 were sent, although metrics.jsonl no longer has the latter.
    go(tmp_path, [30, 40, 50], resumed_at=20, sinks=["wandb"])
    first, second, third = weights_and_biases(tmp_path)
    assert first[1] == [(step, pytest.approx(1 / step)) for step in (10, 20, 30, 40)]
    assert [step for step, _ in second[1] + third[1]] == [50]
    assert first[0] == second[0] == third[0]
    assert first[0] == f"run-{json.loads((tmp_path / 'wandb.json').read_text())['id']}"
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30, 40, 50]


def children():
    """Processes that this one started, by their command."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid():
            found[int(path.parent.name)] = command
    return found


@pytest.mark.slow
def test_a_run_survives_the_death_of_weights_and_biases(tmp_path, offline):
    script = f"""
import os, signal, sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_telemetry import children
from winnow.training.telemetry import Telemetry
with Telemetry(Path(sys.argv[1]), resumed_at=0, sinks=["wandb"], config={{}}) as telemetry:
    telemetry.append(1, {{"loss": 1.0}})
    (server,) = [pid for pid, command in children().items() if b"wandb-core" in command]
    os.kill(server, signal.SIGKILL)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for step in range(2, 2000):
            telemetry.append(step, {{"loss": 1.0}})
for one in said:
    print(one.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith("Weights & Biases gets no more rows from step ")
    assert line.endswith("; metrics.jsonl has them all")
    assert [row["step"] for row in read_metrics(tmp_path)] == list(range(1, 2000))


def test_a_run_survives_a_tensorboard_that_cannot_write(tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    full = SummaryWriter.flush

    def flush(self):
        if len(read_metrics(tmp_path)) == 2:
            raise OSError(28, "No space left on device")
        full(self)

    monkeypatch.setattr(SummaryWriter, "flush", flush)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        go(tmp_path, [10, 20, 30], sinks=["tensorboard"])
    ours = [str(one.message) for one in said if "TensorBoard" in str(one.message)]
    assert ours == [
        "TensorBoard gets no more rows from step 20 on ([Errno 28] No space left on device); "
        "metrics.jsonl has them all"
    ]
    assert [row["step"] for row in read_metrics(tmp_path)] == [10, 20, 30]


def test_a_folder_where_tensorboard_cannot_write_is_said(tmp_path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.warns(UserWarning, match="TensorBoard gets no rows .*metrics.jsonl has them all"):
        go(tmp_path, [10], sinks=["tensorboard"])
    assert [row["step"] for row in read_metrics(tmp_path)] == [10]


@pytest.mark.parametrize(
    ("name", "words"), [("tensorboard", "TensorBoard"), ("wandb", "Weights & Biases")]
)
def test_a_missing_package_is_named_with_its_extra(name, words, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    expected = rf"{words} is asked for .* pip install 'winnow-clip\[{name}\]'"
    with pytest.raises(InputError, match=expected):
        refuse_missing_sinks([name])
    with pytest.raises(InputError, match=expected):
        Telemetry(tmp_path, resumed_at=0, sinks=[name], config=CONFIG)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    places = [place for place in sys.path if not (Path(place) / "wandb").is_dir()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *places])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(InputError, match=r"winnow-clip\[wandb\]"):
        refuse_missing_sinks(["wandb"])


ONLINE = """
import sys
from pathlib import Path
from winnow.training.telemetry import Telemetry
from winnow.types import InputError
try:
    with Telemetry(Path(sys.argv[1]), resumed_at=0, sinks=["wandb"], config={}) as telemetry:
        telemetry.append(10, {"loss": 0.5})
except InputError as error:
    print(error)
"""


def go_online(tmp_path, monkeypatch, *, server, **environment):
    """What a run in a process of its own says, the folder, and the process."""
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_SERVICE", "WANDB_SILENT", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", server)
    for name, value in ({"WANDB_MODE": "online"} | environment).items():
        monkeypatch.setenv(name, value)
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-c", ONLINE, str(run)]
    return run, subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_who_has_not_signed_in_is_told_before_anything_runs(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        run, done = go_online(tmp_path, monkeypatch, server=address)
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout.startswith("Weights & Biases cannot be used: No API key configured.")
    assert "WANDB_MODE=offline" in done.stdout
    assert not (run / "metrics.jsonl").exists() and not (run / "wandb.json").exists()


@pytest.mark.slow
def test_without_a_network_rows_stay_in_the_folder(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        run, done = go_online(tmp_path, monkeypatch, server=address, WANDB_API_KEY="a" * 40)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(f"Weights & Biases cannot be reached at {address}: rows stay in") == 1
    assert weights_and_biases(run)[0][1] == [(10, 0.5)]
    assert read_metrics(run) == [{"step": 10, "loss": 0.5}]
