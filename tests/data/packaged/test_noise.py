from pathlib import Path

import pytest

from winnow.data.packaged.captions import caption
from winnow.data.packaged.noise import NO_NOISE, Noise, NoiseRates, plan_samples
from winnow.data.packaged.vendors import Drawing
from winnow.data.packaged.workers import map_in_processes
from winnow.types import InputError


def drawing(number: int, concept: str | None) -> Drawing:
    return Drawing(
        identity=f"test-solid-{number}",
        vendor="test",
        style="solid",
        concept=concept,
        name=f"thing {concept or number}",
        terms=(),
        category="Objects",
        path=Path("unused.svg"),
    )


@pytest.mark.parametrize("group_size", [1, 3, 40])
def test_no_swapped_caption_stays_within_its_concept(group_size):
    drawings = [drawing(n, f"{0x1F300 + n // group_size:x}") for n in range(200)]
    samples = plan_samples(drawings, rates=NoiseRates(swapped=0.5), seed=3)
    swapped = [sample for sample in samples if sample.planted is Noise.SWAPPED]
    assert len(swapped) > 90
    assert not [s for s in swapped if s.drawing.name.lower() in s.caption.lower()]


def test_without_noise_there_is_one_sound_sample_per_drawing():
    samples = plan_samples([drawing(n, None) for n in range(50)], rates=NO_NOISE, seed=0)
    assert len(samples) == 50
    assert all(s.planted is None and s.caption == s.original_caption for s in samples)


def test_rates_beyond_everything_are_refused():
    with pytest.raises(InputError, match="sum to at most 1"):
        NoiseRates(swapped=0.9)


def test_a_caption_depends_on_its_drawing_and_the_seed_alone():
    one, other = drawing(1, "1f34e"), drawing(2, "1f34e")
    captions = [caption(one, seed=seed) for seed in range(20)]
    assert captions == [caption(one, seed=seed) for seed in range(20)]
    assert captions != [caption(other, seed=seed) for seed in range(20)]
    assert len(set(captions)) > 5


def test_results_keep_their_order_in_several_processes():
    numbers = list(range(1_000))
    results = map_in_processes(str, numbers, what="counting", processes=2)
    assert results == [str(number) for number in numbers]
