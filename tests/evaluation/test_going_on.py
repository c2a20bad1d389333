"""A second run reads what the first one measured; what is broken stops only itself."""

import shutil
from dataclasses import replace

import pytest
from colour_tasks import COLOURS, ColourEncoder, picture, sample, write_tar, write_task

from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import Protocols, evaluate
from winnow.evaluation.linear_probe import LinearProbe
from winnow.evaluation.probes import FewShot
from winnow.evaluation.results import read_results
from winnow.evaluation.subject import Presentation
from winnow.types import InputError


class Rounded(ColourEncoder):
    precision = "bf16"


class Trained(ColourEncoder):
    fingerprint = "c0104b"


class Other(ColourEncoder):
    name, fingerprint = "other", "07e4"


@pytest.fixture
def probed(tmp_path):
    """Two pictures a colour to train and to test."""
    folder = tmp_path / "sets" / "probed"
    for split in ("train", "test"):
        shots = [
            member
            for number, name in enumerate([*COLOURS, *COLOURS])
            for member in sample(f"{split}{number:02}", name, caption=f"all {name}")
        ]
        write_task(folder, [shots])
        if split == "train":
            (folder / "test").rename(folder / "train")
    return folder


def run(sets, tmp_path, encoder=None, *names, cache="cache", **options):
    encoder = encoder or ColourEncoder()
    embedder = Embedder(encoder=encoder, cache=tmp_path / cache)
    return evaluate(embedder, sets, tmp_path / "out", protocols=Protocols(names=names, **options))


ALL = ("zero-shot", "retrieval", "linear-probe", "few-shot")
FEW = FewShot(shots=(1,), subsets=2, methods=("zero-shot", "text-initialised"))


def test_what_was_measured_is_read_and_nothing_is_embedded_for_it(probed, tmp_path):
    sets = {"probed": probed}
    first = run(sets, tmp_path, None, *ALL, few_shot=FEW)
    assert (first.known, first.replaced) == (0, ())
    written = tuple(read_results(tmp_path / "out"))
    encoder = ColourEncoder()
    again = run(sets, tmp_path, encoder, *ALL, few_shot=FEW, cache="another")
    assert again.results == written
    assert again.known == len(first.results)
    assert encoder.calls == 0
    assert not (tmp_path / "another" / "images").exists()
    # One more protocol is measured beside what is known.
    run(sets, tmp_path, None, "zero-shot")
    assert len(read_results(tmp_path / "out")) == len(first.results)


ANOTHER = {
    "prompts": ({"presentation": Presentation(templates=("a {c}",))}, {"zero-shot", "few-shot"}),
    "captions": ({"presentation": Presentation(caption="a {}")}, {"retrieval"}),
    "probe": ({"linear_probe": LinearProbe(seed=1)}, {"linear-probe"}),
    "shots": ({"few_shot": replace(FEW, shots=(1, 2))}, {"few-shot"}),
    "subsets": ({"few_shot": replace(FEW, subsets=1)}, {"few-shot"}),
}


@pytest.mark.parametrize("what", ANOTHER)
def test_what_is_asked_in_another_way_is_measured_again(probed, tmp_path, what):
    options, anew = ANOTHER[what]
    first = run({"probed": probed}, tmp_path, None, *ALL, few_shot=FEW)
    again = run({"probed": probed}, tmp_path, None, *ALL, **{"few_shot": FEW, **options})
    assert {row.protocol for row in again.replaced} == anew
    assert again.known == sum(row.protocol not in anew for row in first.results)
    assert tuple(read_results(tmp_path / "out")) != first.results


def test_other_training_pictures_fit_the_probes_again(probed, tmp_path):
    run({"probed": probed}, tmp_path, None, *ALL, few_shot=FEW)
    members = [m for n, name in enumerate([*COLOURS] * 3) for m in sample(f"t{n:02}", name)]
    write_tar(probed / "train" / "0.tar", members)
    again = run({"probed": probed}, tmp_path, None, *ALL, few_shot=FEW)
    assert {row.protocol for row in again.replaced} == {"linear-probe", "few-shot"}


@pytest.mark.parametrize("encoder", [Rounded(), Trained()], ids=["precision", "weights"])
def test_another_model_is_measured_anew(probed, tmp_path, encoder):
    run({"probed": probed}, tmp_path, None, "zero-shot")
    again = run({"probed": probed}, tmp_path, encoder, "zero-shot")
    assert again.known == 0
    assert {row.protocol for row in again.replaced} == {"zero-shot"}


def test_a_row_without_its_predictions_is_measured_again(probed, tmp_path):
    first = run({"probed": probed}, tmp_path, None, "zero-shot", "retrieval")
    file = tmp_path / "out" / "predictions" / "probed-test-zero-shot.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    again = run({"probed": probed}, tmp_path, None, "zero-shot", "retrieval")
    assert again.known == sum(row.protocol == "retrieval" for row in first.results)
    assert run({"probed": probed}, tmp_path, None, "zero-shot").known == len(
        [row for row in first.results if row.protocol == "zero-shot"]
    )


def test_predictions_go_with_the_results_of_older_weights(probed, tmp_path):
    run({"probed": probed}, tmp_path, None, *ALL, few_shot=FEW)
    run({"probed": probed}, tmp_path, Trained(), "zero-shot")
    left = [path.name for path in (tmp_path / "out" / "predictions").iterdir()]
    assert left == ["probed-test-zero-shot.parquet"]
    assert {row.protocol for row in read_results(tmp_path / "out")} == {"zero-shot"}


def test_the_results_of_another_model_are_never_touched(probed, tmp_path):
    first = run({"probed": probed}, tmp_path)
    encoder = Other()
    with pytest.raises(InputError, match=r"out holds the results of another model, colour: name"):
        run({"probed": probed}, tmp_path, encoder)
    assert encoder.calls == 0
    assert tuple(read_results(tmp_path / "out")) == first.results


def test_a_picture_that_cannot_be_decoded_ends_its_own_set_alone(probed, tmp_path):
    broken = tmp_path / "sets" / "broken"
    shutil.copytree(probed, broken)
    rotten = [("x.png", picture("red", size=64)[:-40]), ("x.cls", b"0"), ("x.txt", b"all red")]
    write_tar(broken / "test" / "0.tar", [*sample("a", "blue", caption="all blue"), *rotten])
    sets = {"broken": broken, "probed": probed}
    evaluation = run(sets, tmp_path, None, "zero-shot", "retrieval")
    assert {row.task for row in evaluation.results} == {"probed"}
    (skipped,) = evaluation.skipped
    assert (skipped.task, skipped.is_broken) == ("broken", True)
    for word in (str(broken), "test", "sample x", "cannot be read"):
        assert word in skipped.why


def test_training_pictures_that_cannot_be_decoded_leave_zero_shot_alone(probed, tmp_path):
    write_tar(
        probed / "train" / "0.tar",
        [("x.png", picture("red", size=64)[:-40]), ("x.cls", b"0"), *sample("y", "blue")],
    )
    evaluation = run({"probed": probed}, tmp_path, None, "zero-shot", "linear-probe")
    assert {row.protocol for row in evaluation.results} == {"zero-shot"}
    (skipped,) = evaluation.skipped
    assert "(train), sample x" in skipped.why
