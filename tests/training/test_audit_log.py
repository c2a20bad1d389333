"""What a run gathers of every pair: against loops over its towers' embeddings, and over kills."""

import errno
import math
import random
import signal
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
import torch
from rank_runs import run_on_ranks
from small_towers import SMALL

from winnow.data import audit_segments
from winnow.data.audit import AuditTable, aggregate
from winnow.data.audit_segments import SegmentFacts, segments_in
from winnow.data.mixture import Mixture
from winnow.objectives import HardNegativeNCE, InfoNCE, ProgressiveSelfDistillation, SigLIP
from winnow.training import audit_log, updates
from winnow.training.audit_log import AuditLog
from winnow.training.checkpoint_files import steps_in
from winnow.training.run import train
from winnow.training.step import StepReport
from winnow.types import InputError

PSD = ProgressiveSelfDistillation
OBJECTIVES = {
    "infonce": {"objective": InfoNCE()},
    "hard-negative": {"objective": HardNegativeNCE(beta=0.5)},
    "psd": {"objective": PSD(initial_share=0.5, final_share=0.5)},
    "siglip": {
        "objective": SigLIP(),
        "model": replace(SMALL, logit_scale=2.303, logit_bias=-1.0),
    },
}


def audit_of(out):
    return AuditTable.open(out / "audit.parquet")


def softmax(scores, i):
    return math.exp(scores[i]) / sum(math.exp(score) for score in scores)


@pytest.fixture
def embedded(monkeypatch):
    """Filled, as a run goes on, with step -> rows, cosines, scale and bias before the update."""
    found, honest = {}, updates.training_step

    def step(towers, optimizer, batch, **options):
        with torch.no_grad():
            image, text, scale, bias, _ = towers(batch.image_BCHW, batch.text_BT)
        image, text = (t.double() / t.double().norm(dim=1, keepdim=True) for t in (image, text))
        bias = 0.0 if bias is None else bias.item()
        found[options["step"]] = batch.row_B.tolist(), image @ text.T, scale.item(), bias
        return honest(towers, optimizer, batch, **options)

    monkeypatch.setattr(updates, "training_step", step)
    return found


def without_checkpoints(recipe, **changes):
    return replace(recipe, runtime=replace(recipe.runtime, checkpoint_every=100), **changes)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_gathers_what_its_embeddings_say(name, embedded, recipe, selection, tmp_path):
    recipe = without_checkpoints(recipe, steps=8, **OBJECTIVES[name])
    train(recipe, selection, tmp_path)
    seen = defaultdict(list)
    for step, (rows, cosine, scale, bias) in embedded.items():
        for i, row in enumerate(rows):
            probability, margin, first = [], [], True
            for scores in (cosine[i].tolist(), cosine[:, i].tolist()):
                best = max(score for j, score in enumerate(scores) if j != i)
                logits = [scale * score + bias for score in scores]
                yes = 1 / (1 + math.exp(-logits[i]))
                probability.append(yes if name == "siglip" else softmax(logits, i))
                margin.append(scores[i] - best)
                first = first and scores[i] > best
            seen[row].append((step, np.mean(probability), np.mean(margin), first))
    audit = audit_of(tmp_path)
    uids = selection.table["uid"].to_pylist()
    assert len(audit) == len(seen) == 48
    assert audit.steps == 8 and audit.fingerprint == selection.fingerprint
    for place, row in enumerate(audit.table.to_pylist()):
        own = seen[uids.index(row["uid"])]
        assert row["times"] == len(own) >= 1
        late = [p for step, p, *_ in own if step >= 4]
        wanted = None if not late else pytest.approx(np.mean(late), rel=1e-4)
        assert row["own_probability_late"] == wanted
        assert row["own_probability"] == pytest.approx(np.mean([p for _, p, *_ in own]), rel=1e-4)
        assert row["margin"] == pytest.approx(np.mean([m for *_, m, _ in own]), abs=1e-5)
        assert row["not_first"] == pytest.approx(1 - np.mean([first for *_, first in own]))
        assert row["key"] == selection.table["key"][place].as_py()
        assert (row["target_other_mass"] is not None) == (name == "psd")


def test_the_mass_of_soft_targets_is_the_mean_of_what_steps_told(recipe, selection, tmp_path):
    recipe = without_checkpoints(
        recipe, steps=6, objective=PSD(initial_share=1.0, final_share=1.0, choose="random")
    )
    told, honest = defaultdict(list), updates.training_step

    def step(*arguments, **options):
        report = honest(*arguments, **options)
        rows = arguments[2].row_B.tolist()
        for row, mass in zip(rows, report.diagnostics["target_own_mass"].tolist(), strict=True):
            told[row].append(1 - mass)
        return report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(updates, "training_step", step)
        train(recipe, selection, tmp_path)
    found = audit_of(tmp_path).column("target_other_mass")
    np.testing.assert_allclose(found, [np.mean(told[row]) for row in range(48)], rtol=1e-5)
    assert found.min() > 0.1


def interrupt(recipe, selection, out, *, at, monkeypatch):
    """Train until a step that fails, as if the process had died there."""
    honest = updates.training_step

    def step(*arguments, **options):
        if options["step"] == at:
            raise RuntimeError("the machine is gone")
        return honest(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="machine is gone"):
        patch.setattr(updates, "training_step", step)
        train(recipe, selection, out)


def test_resuming_after_a_failure_gives_the_uninterrupted_table(
    recipe, selection, tmp_path, monkeypatch
):
    """Segments between checkpoints are written here, every second step, and dropped if lost."""
    monkeypatch.setattr(audit_log, "PAIRS_HELD", 16)
    recipe = replace(recipe, objective=PSD(final_share=0.5), steps=9)
    train(recipe, selection, tmp_path / "whole")
    interrupt(recipe, selection, tmp_path / "run", at=8, monkeypatch=monkeypatch)
    assert segments_in(tmp_path / "run")[-1].end == 8
    assert steps_in(tmp_path / "run" / "checkpoints")[-1] == 6
    train(recipe, selection, tmp_path / "run")
    assert audit_of(tmp_path / "run").table.equals(audit_of(tmp_path / "whole").table)
    steps = [(one.first, one.end) for one in segments_in(tmp_path / "run")]
    assert steps == [(0, 2), (2, 3), (3, 5), (5, 6), (6, 8), (8, 9)]


def test_a_run_without_it_leaves_nothing_and_one_gone_on_without_it_drops_what_was_lost(
    recipe, selection, tmp_path, monkeypatch
):
    recipe = without_checkpoints(recipe, steps=4)
    silent = replace(recipe, runtime=replace(recipe.runtime, audit=False))
    train(silent, selection, tmp_path / "silent")
    assert not (tmp_path / "silent" / "audit").exists()
    assert not (tmp_path / "silent" / "audit.parquet").exists()
    with pytest.raises(InputError, match="has no audit to read"):
        aggregate(tmp_path / "silent")
    monkeypatch.setattr(audit_log, "PAIRS_HELD", 8)
    interrupt(recipe, selection, tmp_path / "lost", at=2, monkeypatch=monkeypatch)
    assert [one.end for one in segments_in(tmp_path / "lost")] == [1, 2]
    train(silent, selection, tmp_path / "lost")
    assert segments_in(tmp_path / "lost") == []


def test_a_full_disk_ends_the_run_before_a_checkpoint_counts(
    recipe, selection, tmp_path, monkeypatch
):
    recipe = replace(recipe, steps=6)
    train(recipe, selection, tmp_path / "whole")
    honest = audit_segments.pq.write_table

    def full(table, *arguments, **options):
        if table["step"][0].as_py() == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(table, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(InputError, match="No space left"):
        patch.setattr(audit_segments.pq, "write_table", full)
        train(recipe, selection, tmp_path / "run")
    assert steps_in(tmp_path / "run" / "checkpoints") == [3]
    assert [path.name for path in (tmp_path / "run" / "audit").iterdir()] == [
        "steps-00000000-00000003-rank-0.parquet"
    ]
    train(recipe, selection, tmp_path / "run")
    assert audit_of(tmp_path / "run").table.equals(audit_of(tmp_path / "whole").table)


def test_what_the_disk_refuses_is_held(tmp_path, monkeypatch):
    log = AuditLog(tmp_path, SegmentFacts(4, "f"), first_step=2)
    report = made_up_report([0.25, 0.75], scale=10.0)
    log.observe(2, torch.tensor([7, 5]), report)

    def refusing(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(audit_segments.pq, "write_table", refusing)
        log.write()
    assert not list((tmp_path / "audit").iterdir())
    log.observe(3, torch.tensor([1, 0]), report)
    log.write()
    log.write()  # there is nothing more
    (segment,) = segments_in(tmp_path)
    assert segment[:3] == (2, 4, 0)
    table, facts = audit_segments.read_segment(segment)
    assert facts == SegmentFacts(4, "f")
    assert table.to_pydict() == {
        "step": [2, 2, 3, 3],
        "row": [7, 5, 1, 0],
        "own_probability": [0.375, 0.875] * 2,
        "margin": [pytest.approx(0.35), pytest.approx(-0.15)] * 2,
        "is_first": [True, False] * 2,
        "target_other_mass": pytest.approx([np.nan] * 4, nan_ok=True),
    }


def made_up_report(probability, *, scale):
    """Of two pairs, the first of which is first both ways."""
    own = torch.tensor(probability, dtype=torch.float64)
    return StepReport(
        loss=1.0,
        gradient_norm=1.0,
        scale=scale,
        bias=None,
        loss_B=own,
        diagnostics={
            "own_probability_image_to_text": own,
            "own_probability_text_to_image": own + torch.tensor([0.25, 0.25]),
            "margin_image_to_text": torch.tensor([3.0, -2.0]),
            "margin_text_to_image": torch.tensor([4.0, -1.0]),
            "rank_1_image_to_text": torch.tensor([1.0, 1.0]),
            "rank_1_text_to_image": torch.tensor([1.0, 0.0]),
        },
        direction_sums={},
    )


def test_rows_of_a_mixture_are_known_by_their_uids(recipe, selection, repetitive, tmp_path):
    mixture = Mixture.of({"many": selection, "few": repetitive}, {"many": 3, "few": 1})
    train(without_checkpoints(recipe, steps=6), mixture, tmp_path)
    audit = audit_of(tmp_path)
    assert audit.fingerprint == mixture.fingerprint
    few = audit.rows_of(repetitive.table["uid"].combine_chunks())
    assert (few >= 0).all()
    times = audit.table["times"].to_numpy()
    assert times.sum() == 48 and times[np.unique(few)].sum() == pytest.approx(12, abs=3)
    (tmp_path / "audit.parquet").unlink()
    assert AuditTable.open(aggregate(tmp_path)).table.equals(audit.table)


@pytest.mark.slow
def test_a_killed_process_loses_and_doubles_nothing(recipe, selection, tmp_path):
    recipe = replace(recipe, objective=PSD(final_share=0.5))
    train(recipe, selection, tmp_path / "whole")
    at = random.Random(8).randrange(4, recipe.steps)
    (killed,) = run_on_ranks(
        recipe, selection, tmp_path / "run", size=1, at=at, signal_number=signal.SIGKILL
    )
    assert killed.returncode == -signal.SIGKILL
    (stopped,) = run_on_ranks(
        recipe, selection, tmp_path / "run", size=1, at=10, signal_number=signal.SIGTERM
    )
    assert "stopped and saved at step 11" in stopped.stderr
    train(recipe, selection, tmp_path / "run")
    assert audit_of(tmp_path / "run").table.equals(audit_of(tmp_path / "whole").table)


@pytest.mark.slow
def test_one_process_two_and_one_again_see_the_same(recipe, selection, tmp_path):
    recipe = replace(recipe, steps=18)
    train(recipe, selection, tmp_path / "whole")
    out = tmp_path / "run"
    for size, at in ((1, 7), (2, 14), (1, -1)):
        run_on_ranks(recipe, selection, out, size=size, at=at, signal_number=signal.SIGKILL)
    segments = [(one.first, one.end, one.rank) for one in segments_in(out)]
    # The newest checkpoint may not have counted yet when its writer was killed.
    assert {(0, 3, 0), (6, 9, 0), (6, 9, 1), (15, 18, 0)} <= set(segments)
    assert not {(0, 3, 1), (15, 18, 1)} & set(segments)
    found, expected = audit_of(out), audit_of(tmp_path / "whole")
    for name in ("uid", "key", "times"):
        assert found.table[name].equals(expected.table[name])
    for name in ("own_probability", "own_probability_late", "margin"):
        np.testing.assert_allclose(found.column(name), expected.column(name), atol=1e-5)
