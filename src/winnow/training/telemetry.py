"""Where the numbers of a run go: metrics.jsonl always, TensorBoard and Weights & Biases if asked.

metrics.jsonl is the record; the others show it. A resumed run goes on in the same place: steps that
were lost are not shown twice, and a sink that is new gets the rows of before. One that fails while
the run trains is left with one line, for the run is worth more than its picture.
"""

import importlib.util
import math
import os
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

from winnow.config import read_json, write_json
from winnow.distributed import world
from winnow.training.health import HEALTH_FILE, Finding
from winnow.training.metrics import MetricsFile, read_metrics
from winnow.types import InputError

SinkName = Literal["tensorboard", "wandb"]

_WORDS: Mapping[SinkName, str] = {"tensorboard": "TensorBoard", "wandb": "Weights & Biases"}
_EVENTS = "events.out.tfevents."
_WANDB_FILE = "wandb.json"
_SECONDS_TO_ANSWER = 10.0
_SECONDS_TO_FINISH = 120.0
"""For what Weights & Biases has not sent when the run ends; the rest stays in the run's folder."""


class Sink(Protocol):
    """A place that shows rows of metrics."""

    is_new: bool
    """Whether it has none of the rows before this start."""

    def append(self, step: int, row: Mapping[str, float]) -> None:
        """Show the row of the state after `step` steps; all numbers are finite."""
        ...

    def close(self, *, failed: bool) -> None:
        """There are no more rows, as the run is over, or failed."""
        ...


def refuse_missing_sinks(sinks: Sequence[SinkName]) -> None:
    """Raise InputError for a sink whose package is not installed."""
    for name in sinks:
        found = importlib.util.find_spec(name)
        # A folder called `wandb` where the run was started is found too, and has no origin.
        if found is None or found.origin is None:
            raise InputError(
                f"{_WORDS[name]} is asked for and its package {name!r} is not installed: "
                f"pip install 'winnow-clip[{name}]', or leave it out"
            )


class Telemetry:
    """The rows of one run, wherever they go. On ranks other than 0 it takes them and does nothing.

    `config` is shown beside the numbers. Raises InputError for a sink whose package is missing or
    that its user has not signed in to.
    """

    def __init__(
        self,
        run: Path,
        *,
        resumed_at: int,
        sinks: Sequence[SinkName] = (),
        config: Mapping[str, Any],
    ) -> None:
        self._files = ExitStack()
        self._sinks: dict[SinkName, Sink] = {}
        self._metrics: MetricsFile | None = None
        self._findings: MetricsFile | None = None
        if world().rank > 0:
            return
        refuse_missing_sinks(sinks)
        before = read_metrics(run)
        try:
            for name in dict.fromkeys(sinks):
                self._open(name, run, before, resumed_at, config)
        except InputError:
            self._close_sinks(failed=True)
            raise
        self._metrics = self._files.enter_context(MetricsFile(run, resumed_at=resumed_at))
        self._findings = self._files.enter_context(
            MetricsFile(run, resumed_at=resumed_at, name=HEALTH_FILE)
        )

    def __enter__(self) -> "Telemetry":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()
        self._close_sinks(failed=kind is not None)

    def append(self, step: int, row: Mapping[str, float]) -> None:
        """Write the row of the state after `step` steps."""
        if self._metrics is not None:
            self._metrics.append(step, row)
        for name in list(self._sinks):
            self._show(name, step, row)

    def record(self, findings: Iterable[Finding]) -> None:
        """Write what the health rules say."""
        if self._findings is not None:
            for finding in findings:
                self._findings.append(finding.step, finding.row())

    def _open(
        self,
        name: SinkName,
        run: Path,
        before: Sequence[Mapping[str, float]],
        resumed_at: int,
        config: Mapping[str, Any],
    ) -> None:
        try:
            if name == "tensorboard":
                self._sinks[name] = _TensorBoard(run, resumed_at=resumed_at, config=config)
            else:
                shown = int(before[-1]["step"]) if before else 0
                self._sinks[name] = _WeightsAndBiases(run, shown=shown, config=config)
        except OSError as problem:
            _warn(name, "gets no rows", problem)
            return
        for row in before if self._sinks[name].is_new else ():
            if row["step"] <= resumed_at:
                self._show(name, int(row["step"]), row)

    def _close_sinks(self, *, failed: bool) -> None:
        for name, sink in self._sinks.items():
            try:
                sink.close(failed=failed)
            except OSError as problem:
                _warn(name, "may lack the last rows", problem)

    def _show(self, name: SinkName, step: int, row: Mapping[str, float]) -> None:
        finite = {key: value for key, value in row.items() if math.isfinite(value)}
        finite.pop("step", None)
        if name not in self._sinks:
            return
        try:
            self._sinks[name].append(step, finite)
        except OSError as problem:
            del self._sinks[name]
            _warn(name, f"gets no more rows from step {step:,} on", problem)


class _TensorBoard:
    """Event files in the run's folder `tensorboard`."""

    def __init__(self, run: Path, *, resumed_at: int, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run / "tensorboard"
        earlier = sorted(folder.glob(f"{_EVENTS}*"))
        self.is_new = not earlier
        # They are read in the order of their names, which are times: after a clock was put back,
        # the order of their starts would be lost.
        for number, path in enumerate(earlier):
            path.rename(folder / f"{_EVENTS}{number:010d}.earlier")
        # Readers leave out what came before from this step on.
        self._writer = SummaryWriter(str(folder), purge_step=resumed_at + 1)
        if self.is_new:
            self._writer.add_text("recipe", _as_table(config), global_step=0)

    def append(self, step: int, row: Mapping[str, float]) -> None:
        for name, value in row.items():
            self._writer.add_scalar(name, value, global_step=step)
        # A killed run shall have shown what its metrics.jsonl has.
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        self._writer.close()


class _WeightsAndBiases:
    """A run there, whose id stays in this run's folder.

    The project is `winnow`, or what WANDB_PROJECT says. Where the server cannot be reached, or with
    WANDB_MODE=offline, rows stay in the run's folder `wandb`.
    """

    def __init__(self, run: Path, *, shown: int, config: Mapping[str, Any]) -> None:
        import wandb

        path = run / _WANDB_FILE
        self.is_new = not path.is_file()
        known: Any = {"id": secrets.token_hex(4)} if self.is_new else read_json(path)
        run_id: str = known["id"]
        # Rows up to here were sent by a start before this one, and cannot be taken back.
        self._shown: int = 0 if self.is_new else max(known["shown"], shown)
        try:
            self._run = wandb.init(
                dir=str(run),
                id=run_id,
                resume="allow",
                mode=_mode(run),
                name=run.name,
                project=os.environ.get("WANDB_PROJECT", "winnow"),
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(console="off", finish_timeout=_SECONDS_TO_FINISH),
            )
        except wandb.errors.CommError as error:
            raise ConnectionError(str(error)) from error
        except wandb.errors.UsageError as error:
            raise InputError(
                f"Weights & Biases cannot be used: {error} Or set WANDB_MODE=offline, or leave it "
                "out."
            ) from error
        write_json(path, {"id": run_id, "shown": self._shown})

    def append(self, step: int, row: Mapping[str, float]) -> None:
        if step > self._shown:
            self._run.log(dict(row), step=step, commit=True)

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


def _mode(run: Path) -> Literal["offline"] | None:
    """Offline where the server does not answer, for which the package would wait for ever."""
    import requests
    import wandb

    settings = wandb.setup().settings
    if settings.mode not in ("online", "shared"):
        return None
    try:
        # Any answer will do.
        requests.head(settings.base_url, timeout=_SECONDS_TO_ANSWER)
    except requests.RequestException:
        warnings.warn(
            f"Weights & Biases cannot be reached at {settings.base_url}: rows stay in "
            f"{run / 'wandb'}, and `wandb sync` sends them later",
            stacklevel=2,
        )
        return "offline"
    return None


def _as_table(config: Mapping[str, Any], prefix: str = "") -> str:
    """A line of indented text per field: what TensorBoard's markdown leaves as it is."""
    lines = []
    for name, value in config.items():
        inner = isinstance(value, Mapping)
        lines.append(
            _as_table(value, f"{prefix}{name}.") if inner else f"    {prefix}{name} = {value}"
        )
    return "\n".join(lines)


def _warn(name: SinkName, what: str, problem: OSError) -> None:
    warnings.warn(f"{_WORDS[name]} {what} ({problem}); metrics.jsonl has them all", stacklevel=2)
