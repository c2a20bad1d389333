"""Robustness along with zero-shot: parts of ImageNet, and ρ against the published lines."""

import io

import pytest
import torch
from colour_tasks import ColourEncoder, write_tar
from PIL import Image

from winnow.data.images import View
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import evaluate
from winnow.evaluation.imagenet_subsets import imagenet_subset
from winnow.evaluation.results import read_results
from winnow.evaluation.robustness import PUBLISHED

LINES = {shift.name: shift.line for shift in PUBLISHED}
OF_R = imagenet_subset("imagenet-r").indices
OTHERS = tuple(index for index in range(1000) if index not in OF_R)


class NumberEncoder(ColourEncoder):
    """Reads the number that a picture's colour or a text says, and gives its one-hot vector."""

    name = "number"
    fingerprint = "0123"
    view = View(8)

    def encode_image(self, image_BCHW):
        red, green = image_BCHW[:, 0, 0, 0].long(), image_BCHW[:, 1, 0, 0].long()
        return torch.nn.functional.one_hot(40 * (red // 8) + green // 6, 1280).float()

    def encode_text(self, texts):
        return torch.nn.functional.one_hot(torch.tensor([*map(int, texts)]), 1280).float()


def shown(number):
    file = io.BytesIO()
    colour = (8 * (number // 40) + 3, 6 * (number % 40) + 2, 0)
    Image.new("RGB", (8, 8), colour).save(file, "png")
    return file.getvalue()


def write_numbers(folder, classes, pictures):
    """`pictures` are pairs of what is shown and what it is labelled; both are class numbers."""
    members = []
    for index, (number, label) in enumerate(pictures):
        members.append((f"s{index:04}.png", shown(number)))
        members.append((f"s{index:04}.cls", b"%d" % classes.index(label)))
    write_tar(folder / "test" / "0.tar", members)
    (folder / "test" / "nshards.txt").write_text("1\n")
    (folder / "classnames.txt").write_text("".join(f"{number}\n" for number in classes))
    (folder / "zeroshot_classification_templates.txt").write_text("{c}\n")
    return folder


@pytest.fixture
def imagenet(tmp_path):
    """Of 40 classes of ImageNet-R, 36 are shown as labelled and four as another class of it; of 60
    others, 30 are shown as a class of ImageNet-R."""
    of_r = [(number, number) for number in OF_R[:36]] + [(OF_R[50], n) for n in OF_R[36:40]]
    others = [(n, n) for n in OTHERS[:30]] + [(OF_R[0], n) for n in OTHERS[30:60]]
    return write_numbers(tmp_path / "wds_imagenet1k", list(range(1000)), of_r + others)


def run(sets, tmp_path, encoder=None, **options):
    embedder = Embedder(encoder=encoder or NumberEncoder(), cache=tmp_path / "cache")
    return evaluate(embedder, sets, tmp_path / "out", **options)


def robustness_of(folder):
    rows = (row for row in read_results(folder) if row.protocol == "robustness")
    return {(row.task, row.metric, row.method): row for row in rows}


def test_imagenet_is_measured_on_the_classes_of_the_shift_too(imagenet, tmp_path):
    renditions = [(n, n) for n in OF_R[:120]] + [(OF_R[0], n) for n in OF_R[120:]]
    imagenet_r = write_numbers(tmp_path / "wds_imagenet-r", list(OF_R), renditions)
    sets = {"wds_imagenet1k": imagenet, "wds_imagenet-r": imagenet_r}
    results = {(r.task, r.metric, r.method): r for r in run(sets, tmp_path).results}
    assert results["wds_imagenet1k", "top1", ""].value == pytest.approx(66 / 100)
    of_subset = results["wds_imagenet1k", "accuracy_on_subset", "imagenet-r"]
    assert (of_subset.value, of_subset.n) == (pytest.approx(36 / 40), 40)
    assert of_subset.chance == pytest.approx(1 / 200)
    found = results["wds_imagenet-r", "effective_robustness", "published"]
    line = LINES["imagenet-r"]
    logit = torch.logit(torch.tensor(36 / 40, dtype=torch.float64)).item()
    expected = torch.sigmoid(torch.tensor(line.slope * logit + line.intercept)).item()
    assert found.value == pytest.approx(120 / 200 - expected, abs=1e-6)
    assert found.settings["accuracy_in_distribution"] == pytest.approx(36 / 40)
    # What the file holds is what was said.
    assert robustness_of(tmp_path / "out").keys() == {
        key for key, row in results.items() if row.protocol == "robustness"
    }


def test_only_the_whole_of_imagenet_has_parts(tmp_path):
    pictures = [(number, number) for number in OF_R[:5]]
    part = write_numbers(tmp_path / "wds_imagenet1k", list(OF_R), pictures)
    results = run({"wds_imagenet1k": part}, tmp_path).results
    assert {row.protocol for row in results} == {"zero-shot"}


def test_a_shift_with_other_classes_than_the_line_s_has_no_robustness(imagenet, tmp_path):
    few = write_numbers(tmp_path / "wds_imagenet-r", list(OF_R[:100]), [(n, n) for n in OF_R[:9]])
    evaluation = run({"wds_imagenet1k": imagenet, "wds_imagenet-r": few}, tmp_path)
    assert not [row for row in evaluation.results if row.metric == "effective_robustness"]
    (skipped,) = [one for one in evaluation.skipped if one.task == "wds_imagenet-r"]
    assert skipped.why.endswith("it has 100 classes and the set of that name 200")


def test_robustness_is_never_older_than_the_numbers_it_is_made_from(imagenet, tmp_path):
    v2 = write_numbers(tmp_path / "wds_imagenetv2", list(range(1000)), [(n, n) for n in range(50)])
    sets = {"wds_imagenet1k": imagenet, "wds_imagenetv2": v2}
    run(sets, tmp_path)
    of_v2 = "wds_imagenetv2", "effective_robustness", "published"
    assert of_v2 in robustness_of(tmp_path / "out")

    class Rounded(NumberEncoder):
        precision = "bf16"

    # ImageNet itself was measured in another precision: there is no pair any more.
    run({"wds_imagenetv2": v2}, tmp_path, Rounded())
    assert of_v2 not in robustness_of(tmp_path / "out")
    again = run({"wds_imagenet1k": imagenet}, tmp_path, Rounded())
    assert of_v2 in {(r.task, r.metric, r.method) for r in again.results}
