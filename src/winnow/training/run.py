"""One training run: from a recipe and a selection to a model, resumable at any step.

The order of the data is a pure function of (selection, seed), chance in the towers one of (seed,
step, rank), and weights, optimizer and averages are in the checkpoint. So resuming is a step
number: N steps are k steps, a kill, and N - k steps, bit for bit on a CPU; and one
process, two, and one again differ by the rounding of sums alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from safetensors.torch import save_file

from winnow.config import as_dict, write_json
from winnow.data.audit_segments import SegmentFacts
from winnow.data.batch import Batch
from winnow.data.captions import Captions
from winnow.data.concept_targets import ConceptTargets
from winnow.data.folder import claimed
from winnow.data.mixture import Mixture
from winnow.data.selection import Selection
from winnow.distributed import from_the_first, joined, largest, stopping_together, world
from winnow.models.devices import usable_device
from winnow.models.towers import unwrapped
from winnow.progress import say_to_stderr, track
from winnow.training.assembly import Assembly, assemble, clip_weights, whole_weights
from winnow.training.audit_log import AuditLog, forget_lost_steps, write_audit
from winnow.training.checkpoint import Checkpoints
from winnow.training.checkpoint_files import told
from winnow.training.interrupts import BrokenOff, StopRequest, stop_on_signals
from winnow.training.journal import Journal
from winnow.training.judging import (
    Judge,
    Judging,
    forget_unjudged,
    keep_unjudged,
    unjudged_row,
)
from winnow.training.recipe import Recipe
from winnow.training.refusals import (
    DATA_FILE,
    RECIPE_FILE,
    refuse_unmeasured,
    warn_of_sigmoids_without_bias,
)
from winnow.training.run_data import RunData
from winnow.training.time_limit import TimeLimit
from winnow.training.updates import Updates
from winnow.types import InputError, Interrupted, OutOfTime

MODEL_FOLDER = "model"
CHECKPOINTS = "checkpoints"
HEADS_FILE = "concept_heads.safetensors"
"""The heads of a finished run: `{head}.weight` (concepts, D) and `{head}.bias`."""

# What a rank has to say between two steps, beside the number of a signal; the largest counts.
_GO_ON, _TIME_IS_UP, _WRONG, _NO_DISK = 0, 1, 201, 202


def train(
    recipe: Recipe,
    selection: Selection | Mixture,
    out: Path,
    *,
    targets: ConceptTargets | None = None,
    captions: Captions | None = None,
    validation: Selection | None = None,
    judge: Judge | None = None,
    limit: TimeLimit | None = None,
) -> Path:
    """Train `recipe` on `selection` in the folder `out`, or go on where it was; the model's folder.

    Under torchrun all processes call it alike and share every batch. `targets` are for a recipe
    with concept distillation, whose heads learn them; `captions` are others to choose from;
    `validation` are held-out pairs, whose loss is taken every `evaluate_every` steps, when `judge`
    is called too; `limit` is the recipe's time limit, counted from earlier than here. A finished
    run is left as it is. Raises Interrupted after saving, when asked to stop by SIGINT or SIGTERM,
    and OutOfTime at the time limit; NonFiniteError before a weight moves; InputError where `out`
    holds another run, the data does not fit the recipe or cannot be read any more, a health rule
    stops the run, or the disk is full.
    """
    limit = limit or TimeLimit(recipe.runtime.time_limit)
    device = usable_device(recipe.runtime.device)
    with joined(device), ExitStack() as stack:
        data = RunData(
            recipe=recipe,
            selection=selection,
            targets=targets,
            captions=captions,
            validation=validation,
            world=world(),
        )
        with stopping_together():
            data.refuse(out)
            refuse_unmeasured(recipe, judged=judge is not None, validated=validation is not None)
            is_finished = (out / MODEL_FOLDER / "open_clip_config.json").is_file()
        if is_finished:
            return out / MODEL_FOLDER
        with stopping_together():
            sizes = None if targets is None else targets.facts.sizes
            assembly = assemble(recipe, device=device, concept_sizes=sizes)
            warn_of_sigmoids_without_bias(recipe.objective, unwrapped(assembly.towers))
            # Only now is it known that the recipe can be built: a refused one leaves no folder.
            if world().rank == 0:
                stack.enter_context(claimed(out, doing="training in"))
                write_json(out / DATA_FILE, data.facts() | {"start": assembly.start})
                write_json(out / RECIPE_FILE, as_dict(recipe))
        checkpoints = Checkpoints(
            out / CHECKPOINTS,
            keep=recipe.runtime.keep_checkpoints,
            keep_every=recipe.runtime.keep_every,
        )
        stack.callback(checkpoints.close)
        first_step = _restore(checkpoints, assembly)
        forget_lost_steps(out, resumed_at=first_step, checkpoints=checkpoints.directory)
        audit = None
        if recipe.runtime.audit:
            facts = SegmentFacts(steps=recipe.steps, fingerprint=selection.fingerprint)
            audit = AuditLog(out, facts, first_step=first_step)
        with stopping_together():
            journal = stack.enter_context(Journal(recipe, out, resumed_at=first_step))
        judging = Judging(
            recipe=recipe,
            judge=judge,
            validation_batches=None if validation is None else data.validation_batches,
            device=device,
            request=StopRequest(),
        )
        updates = Updates(recipe, data, assembly, audit)
        run = _Run(recipe, updates, data, assembly, checkpoints, journal, judging, limit, audit)
        run.go(first_step)
        _export(assembly, out)
        if audit is not None:
            write_audit(out, selection, checkpoints=checkpoints.directory)
    return out / MODEL_FOLDER


@dataclass(frozen=True)
class _Run:
    recipe: Recipe
    updates: Updates
    data: RunData
    assembly: Assembly
    checkpoints: Checkpoints
    journal: Journal
    judging: Judging
    limit: TimeLimit
    audit: AuditLog | None
    unwritten: list[InputError] = field(default_factory=list)
    """What the disk refused of the journal or of the audit."""

    def go(self, first_step: int) -> None:
        """All steps from `first_step` on."""
        steps = self.recipe.steps
        towers = unwrapped(self.assembly.towers)
        clock = self.updates.clock()
        bar = track("training", total=steps, unit="steps", done=first_step)
        # Closing ends the workers, which leave every signal to this process.
        loading = closing(self.data.batches(towers, first_step=first_step, stops=self._stops))
        with stop_on_signals(self.judging.request), bar as advance, loading as batches:
            note = self._make_up(first_step)
            for step in range(first_step, steps):
                with clock.waiting_for_data():
                    found = _next(batches)
                batch = self._go_on_together(found, done=step, first_step=first_step)
                row = self.updates.make(batch, step, clock)
                with clock.paused():
                    note = self._close(step + 1, row) or note
                advance(1, note)
            with stopping_together():
                self.checkpoints.wait()
                if self.unwritten:
                    raise self.unwritten[0]

    def _go_on_together(
        self,
        found: Batch | InputError | None,
        *,
        done: int,
        first_step: int,
    ) -> Batch:
        """The batch, where every rank has one and none was asked to stop; else the state is saved.

        Raises on every rank alike. Ranks are told of a stop at different times, or one alone.
        """
        wrong = found if isinstance(found, InputError) else self._unhealthy()
        unwritten = self.checkpoints.failure() or next(iter(self.unwritten), None)
        own = self.judging.request.signal_number or (_TIME_IS_UP if self.limit.is_up else _GO_ON)
        if wrong is not None:
            own = _WRONG
        if unwritten is not None:
            own = _NO_DISK
        agreed = largest(own)
        if agreed == _GO_ON:
            assert isinstance(found, Batch)
            return found
        if agreed != _NO_DISK and done > first_step and not self._is_saved(done):
            self._save(done)
        with stopping_together():
            if unwritten is not None or self.unwritten:
                raise unwritten or self.unwritten[0]
            self.checkpoints.wait()
            if wrong is not None:
                raise wrong
        words = f"stopped and saved at step {done} of {self.recipe.steps}"
        if done == 0:
            words = "stopped before its first step"
        words += "; the same command goes on from there"
        if agreed == _TIME_IS_UP:
            limit = self.recipe.runtime.time_limit
            raise OutOfTime(f"the time limit {limit} is reached: {words}")
        raise Interrupted(words, agreed)

    def _close(self, done: int, row: dict[str, float]) -> str:
        """Evaluate, write the row and save, as far as each is due; what the progress line says."""
        wrong = None
        try:
            row = row | self._judged(done)
        except BrokenOff as stop:
            self._stop_unjudged(done, row, stop.signal_number)
        except InputError as error:
            wrong = error  # what was learned until here is not lost for it
        note = ""
        if row and wrong is None and world().rank == 0:
            try:
                with told(self.journal.folder, self.checkpoints.directory):
                    note = self.journal.write(done, row)
            except InputError as error:
                self.unwritten.append(error)  # which all ranks hear of before the next step
        if self._is_saved(done) or wrong is not None:
            self._save(done)
        elif self.audit is not None and self.audit.is_full:
            self._is_audit_written()
        if wrong is not None:
            self._keep_unjudged(done, row)
            raise wrong
        return note

    def _judged(self, done: int) -> dict[str, float]:
        """What is measured of the model after `done` steps; where it is the best, it is kept."""
        if not self.judging.is_due(done):
            return {}
        row = self.judging.measure(self.assembly.exported, step=done)
        if self.journal.best.is_best(row):
            if self._save(done):
                with stopping_together():
                    self.checkpoints.pin(done)
            self.journal.best.keep(self.assembly.exported, step=done, row=row)
        return row

    def _stop_unjudged(self, done: int, row: dict[str, float], signal_number: int) -> NoReturn:
        """Save the state, and beside it the row that its evaluation is still to be added to."""
        self._save(done)
        self._keep_unjudged(done, row)
        words = f"stopped in the evaluation after step {done} of {self.recipe.steps}, and saved"
        raise Interrupted(f"{words}; the same command goes on with that evaluation", signal_number)

    def _keep_unjudged(self, done: int, row: dict[str, float]) -> None:
        """Have the run that goes on make the evaluation after `done` steps first. Collective."""
        folder = self.journal.folder
        with stopping_together(), told(folder, self.checkpoints.directory):
            if self.unwritten:
                raise self.unwritten[0]
            if world().rank == 0:
                keep_unjudged(folder, step=done, row=row)
            self.checkpoints.wait()

    def _make_up(self, done: int) -> str:
        """The evaluation that was broken off, if one was; what the progress line says."""
        is_first = world().rank == 0
        row = from_the_first(unjudged_row(self.journal.folder, step=done) if is_first else None)
        note = "" if row is None else self._close(done, row)
        if world().rank == 0 and not self.unwritten:
            forget_unjudged(self.journal.folder)
        return note

    def _stops(self) -> bool:
        """Whether nobody wants a batch any more that is not there yet."""
        return self.judging.request.is_made() or self.limit.is_up

    def _save(self, done: int) -> bool:
        """Save the state after `done` steps; False where what they said of pairs cannot be kept."""
        if largest(int(not self._is_audit_written())):
            return False
        self.checkpoints.save(done, self.assembly.state())
        return True

    def _is_audit_written(self) -> bool:
        """Write what this rank holds of the audit; False where the disk refuses."""
        if self.audit is None:
            return True
        try:
            with told(self.audit.folder, self.checkpoints.directory):
                self.audit.write()
        except InputError as error:
            self.unwritten.append(error)  # which all ranks hear of before the next step
            return False
        return True

    def _unhealthy(self) -> InputError | None:
        finding = self.journal.stops
        if finding is None:
            return None
        return InputError(
            f"{finding.sentence} (the run is saved, and ends since --runtime.health.stop-on has "
            f"{finding.rule!r})"
        )

    def _is_saved(self, done: int) -> bool:
        return done % self.recipe.runtime.checkpoint_every == 0 or done == self.recipe.steps


def _next(batches: Iterator[Batch]) -> Batch | InputError | None:
    """The next batch, or what is wrong with the data, which all ranks have to hear of.

    None where a stop was asked for first.
    """
    try:
        return next(batches, None)
    except InputError as error:
        return error


def _restore(checkpoints: Checkpoints, assembly: Assembly) -> int:
    """Load the newest whole checkpoint, if any; returns how many steps are done. Collective."""
    state = assembly.state()
    loaded = checkpoints.load_newest(state)
    if loaded is None:
        assembly.begin_anew()
        return 0
    for name in loaded.damaged if world().rank == 0 else ():
        say_to_stderr(
            f"checkpoint {name} is damaged and set aside as {name}.damaged, which may be removed; "
            f"going on from step {loaded.step}"
        )
    assembly.restore(state)
    return loaded.step


def _export(assembly: Assembly, out: Path) -> None:
    """The model, and for whoever asks what the heads have learnt, the heads. Collective."""
    trained = whole_weights(assembly.towers)
    weights = trained if assembly.average is None else whole_weights(assembly.average)
    with stopping_together(), told(out, out / CHECKPOINTS):
        if world().rank > 0:
            return
        prefix = "heads.linear."
        heads = {n.removeprefix(prefix): w for n, w in trained.items() if n.startswith(prefix)}
        if heads:
            partial = out / f"{HEADS_FILE}.partial"
            save_file(heads, partial)
            partial.replace(out / HEADS_FILE)
        unwrapped(assembly.towers).export(out / MODEL_FOLDER, clip_weights(weights))
