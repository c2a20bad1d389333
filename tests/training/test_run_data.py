"""What a run reads, and what it says of reading."""

from dataclasses import replace

from winnow.data.mixture import Mixture
from winnow.distributed import World
from winnow.training import updates
from winnow.training.metrics import read_metrics
from winnow.training.run import train
from winnow.training.run_data import RunData


def test_sources_are_counted_in_one_order_that_is_made_once(
    recipe, selection, repetitive, monkeypatch
):
    mixture = Mixture.of({"many": selection, "few": repetitive}, {"many": 3, "few": 1})
    honest, made = Mixture.order, []
    monkeypatch.setattr(Mixture, "order", lambda *given: made.append(given) or honest(*given))
    data = RunData(
        recipe=recipe,
        selection=mixture,
        targets=None,
        captions=None,
        validation=None,
        world=World(0, 1),
    )
    counts = [data.samples_of_sources(samples) for samples in (0, 4096, 8192)]
    assert counts == [
        {"source/many/samples": 3072.0 * n, "source/few/samples": 1024.0 * n} for n in range(3)
    ]
    assert len(made) == 1


def test_the_share_of_waiting_is_that_of_the_rank_that_waits_most(
    recipe, selection, tmp_path, monkeypatch
):
    """The other rank says that it waits for three quarters of its time."""
    of_both = updates.largest
    monkeypatch.setattr(
        updates,
        "largest",
        lambda own: 0.75 if isinstance(own, float) else of_both(own),
    )
    train(replace(recipe, steps=2), selection, tmp_path)
    assert [row["data_wait_share"] for row in read_metrics(tmp_path)] == [0.75, 0.75]
