"""Numbers equal those of CLIP_benchmark on the same features, and from pictures to numbers."""

import io
import json
import tarfile

import numpy as np
import open_clip
import pytest
import torch
from clip_benchmark.datasets.builder import build_dataset
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from clip_benchmark.models import load_clip
from result_rows import measured
from safetensors.torch import save_file

from winnow.data.packaged import NO_NOISE, PackagedConfig, build
from winnow.evaluation.clip_benchmark_json import write_clip_benchmark_json
from winnow.evaluation.embed import Embedder
from winnow.evaluation.evaluate import evaluate
from winnow.evaluation.retrieval import retrieval, retrieval_measures
from winnow.evaluation.scores import class_scores, mean_average_precision
from winnow.evaluation.zero_shot import zero_shot, zero_shot_measures
from winnow.models import CustomTowers, TextTransformer, VisionTransformer
from winnow.models.encoder import load_encoder
from winnow.models.towers import Towers


@pytest.fixture(autouse=True)
def accuracy_on_numpy_2_4(monkeypatch):
    """Its `accuracy` takes float() of an array of one number, which numpy 2.4 refuses."""

    def accuracy(output, target, topk=(1,)):
        correct = output.topk(max(topk), 1, True, True)[1].t().eq(target.view(1, -1))
        return [correct[:k].float().sum().item() / len(target) for k in topk]

    monkeypatch.setattr(zeroshot_classification, "accuracy", accuracy)


class FeaturesAsModel:
    """ "Pictures" are features already, and a text is the number of its feature."""

    def __init__(self, text_MD):
        self._text_MD = torch.from_numpy(text_MD)

    def encode_image(self, image_BD):
        return image_BD

    def encode_text(self, index_B):
        return self._text_MD[index_B]


class Batches:
    """What both `evaluate`s ask of a loader."""

    def __init__(self, batches, *, classes=()):
        self.dataset, self._batches = self, batches
        self.classes = list(classes)

    def __iter__(self):
        return iter(self._batches)


def numbers(texts):
    return torch.tensor([int(text) for text in texts])


def prompt_number(text, num_templates):
    class_index, template = text.split("+")
    return int(class_index) * num_templates + int(template)


def values(measures):
    return {measure.metric: measure.value for measure in measures}


def noisy(rng, centers_KD, index_N, *, noise):
    features = centers_KD[index_N] + noise * rng.normal(size=(len(index_N), centers_KD.shape[1]))
    return features.astype(np.float32)


def batches(image_ND, labels, *, num_classes):
    parts = (torch.from_numpy(array).split(128) for array in (image_ND, labels))
    return Batches(zip(*parts, strict=True), classes=map(str, range(num_classes)))


@pytest.mark.parametrize("num_templates", [1, 3])
def test_zero_shot_of_1000_classes_and_3000_pictures(num_templates):
    rng = np.random.default_rng(0)
    label_N = rng.integers(1000, size=3000)
    centers_KD = rng.normal(size=(1000, 64))
    image_ND = noisy(rng, centers_KD, label_N, noise=1.5)
    prompt_ND = noisy(rng, centers_KD, np.repeat(np.arange(1000), num_templates), noise=0.8)
    theirs = zeroshot_classification.evaluate(
        FeaturesAsModel(prompt_ND),
        batches(image_ND, label_N, num_classes=1000),
        lambda texts: torch.tensor([prompt_number(text, num_templates) for text in texts]),
        [str(k) for k in range(1000)],
        [f"{{c}}+{t}" for t in range(num_templates)],
        device="cpu",
        amp=False,
    )
    unit = prompt_ND / np.linalg.norm(prompt_ND, axis=1, keepdims=True)
    class_KD = unit.reshape(1000, num_templates, 64).mean(axis=1)
    ranking = zero_shot(image_ND, class_KD, label_N)
    ours = values(zero_shot_measures(ranking, label_N, num_classes=1000))
    assert 0.2 < ours["top1"] < 0.9
    assert ours["top1"] == pytest.approx(theirs["acc1"], abs=1e-6)
    assert ours["top5"] == pytest.approx(theirs["acc5"], abs=1e-6)
    assert ours["mean_per_class"] == pytest.approx(theirs["mean_per_class_recall"], abs=1e-6)


@pytest.mark.parametrize("captions_each", [1, 3])
def test_retrieval_of_3000_captions(captions_each):
    rng = np.random.default_rng(1)
    num_images = 3000 // captions_each
    image_ND = rng.normal(size=(num_images, 64)).astype(np.float32)
    owner_M = np.repeat(np.arange(num_images), captions_each)
    caption_MD = noisy(rng, image_ND, owner_M, noise=2.0)
    batches = [
        (
            torch.from_numpy(image_ND[start : start + 100]),
            [
                [str(i * captions_each + c) for c in range(captions_each)]
                for i in range(start, min(start + 100, num_images))
            ],
        )
        for start in range(0, num_images, 100)
    ]
    theirs = zeroshot_retrieval.evaluate(
        FeaturesAsModel(caption_MD),
        Batches(batches),
        numbers,
        device="cpu",
        amp=False,
        recall_k_list=[1, 5, 10],
    )
    pair_P2 = np.stack([owner_M, np.arange(3000)], axis=1)
    ours = values(retrieval_measures(retrieval(image_ND, caption_MD, pair_P2)))
    assert 0.1 < ours["image_to_text_recall@1"] < 0.9
    for k in (1, 5, 10):
        text, image = theirs[f"text_retrieval_recall@{k}"], theirs[f"image_retrieval_recall@{k}"]
        assert ours[f"image_to_text_recall@{k}"] == pytest.approx(text, abs=1e-6)
        assert ours[f"text_to_image_recall@{k}"] == pytest.approx(image, abs=1e-6)


@pytest.mark.parametrize("absent", [0, 4])
def test_mean_average_precision_of_several_labels(absent, tmp_path):
    rng = np.random.default_rng(2)
    class_KD = rng.normal(size=(40, 64)).astype(np.float32)
    label_NK = rng.random((3000, 40)) < 0.08
    label_NK[:40] |= np.eye(40, dtype=bool)
    label_NK[:, :absent] = False
    image_ND = (label_NK @ class_KD + 4 * rng.normal(size=(3000, 64))).astype(np.float32)
    theirs = zeroshot_classification.evaluate(
        FeaturesAsModel(class_KD),
        batches(image_ND, label_NK, num_classes=40),
        numbers,
        [str(k) for k in range(40)],
        ["{c}"],
        device="cpu",
        amp=False,
    )
    measure = mean_average_precision(class_scores(image_ND, class_KD), label_NK)
    assert 2 * measure.chance < measure.value < 0.95
    row = measured(num_classes=40, metric="map", value=measure.value, n=measure.n)
    (path,) = write_clip_benchmark_json(tmp_path, [row])
    written = json.loads(path.read_text())["metrics"]["mean_average_precision"]
    assert written == pytest.approx(theirs["mean_average_precision"], abs=1e-6)
    # Ours has no part in classes that nothing shows.
    assert measure.value == pytest.approx(written * 40 / (40 - absent))


CAPTIONS = ("{key}, a drawing", "what {key} looks like")
"""Every picture has its own, for CLIP_benchmark takes a repeated caption for another one."""


def members(path):
    """(Key, suffix, bytes) of everything in a tar."""
    with tarfile.open(path) as archive:
        for member in archive:
            key, _, suffix = member.name.partition(".")
            yield key, suffix, archive.extractfile(member).read()


def write_tar(path, files):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Pictures of three vendors, 1,626 classes, in clip-benchmark's two layouts."""
    folder = tmp_path_factory.mktemp("oracle")
    config = PackagedConfig(side=64, max_icons=0, noise=NO_NOISE)
    tasks = build(folder / "packaged", config=config, processes=1).tasks
    labelled, captioned = folder / "labelled", folder / "captioned"
    for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
        labelled.mkdir(exist_ok=True)
        (labelled / name).write_bytes((tasks["fit"] / name).read_bytes())
    for number, task in enumerate(("fit", "twemoji", "noto-mono")):
        files = list(members(tasks[task] / "test" / "0.tar"))
        write_tar(
            labelled / "test" / f"{number}.tar",
            [(f"{key}.{suffix}", content) for key, suffix, content in files if suffix != "txt"],
        )
        own = []
        for key, suffix, content in files:
            if suffix == "txt":
                content = "\n".join(text.format(key=key) for text in CAPTIONS).encode()
            if suffix != "cls":
                own.append((f"{key}.{suffix}", content))
        write_tar(captioned / "test" / f"{number}.tar", own)
    for place in (labelled, captioned):
        (place / "test" / "nshards.txt").write_text("3")
    (captioned / "dataset_type.txt").write_text("retrieval")
    return {"labelled": labelled, "captioned": captioned}


@pytest.fixture(scope="module")
def model(sets, tmp_path_factory):
    """A small model whose image projection is the least-squares fit of pictures to their classes:
    no training, and far from chance.
    """
    torch.manual_seed(0)
    towers = Towers(
        CustomTowers(
            embed_dim=256,
            image=VisionTransformer(
                image_size=32, patch_size=8, width=768, head_width=32, layers=1
            ),
            text=TextTransformer(context_length=24, width=256, heads=2, layers=1),
        )
    )
    folder = tmp_path_factory.mktemp("model")
    towers.export(folder)
    clip, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    clip.eval()
    dataset = build_dataset("wds/labelled", root=str(sets["labelled"]), transform=transform)
    batches = list(dataset.batched(256))
    labels = torch.cat([torch.as_tensor(label) for _, label in batches])
    with torch.no_grad():
        clip.visual.proj = None
        hidden_NH = torch.cat([clip.encode_image(pictures) for pictures, _ in batches])
        text_KD = clip.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(dataset.classes))
        target_KD = text_KD / text_KD.norm(dim=1, keepdim=True)
        target_KD = target_KD - target_KD.mean(dim=0)
        solution_HD = torch.linalg.lstsq(hidden_NH, target_KD[labels]).solution
    state = clip.state_dict() | {"visual.proj": solution_HD}
    save_file(
        {name: value.contiguous() for name, value in state.items()},
        folder / "open_clip_model.safetensors",
    )
    return f"local-dir:{folder}"


@pytest.mark.slow
def test_from_pictures_to_numbers(sets, model, tmp_path):
    loaded, transform, tokenizer = load_clip("open_clip", model, None, None, device="cpu")
    loaded.eval()

    def loader(name, task):
        root = str(sets[name])
        dataset = build_dataset(f"wds/{name}", root=root, transform=transform, task=task)
        batches = torch.utils.data.DataLoader(dataset.batched(64), batch_size=None)
        return batches, dataset

    batches, dataset = loader("labelled", "zeroshot_classification")
    theirs = zeroshot_classification.evaluate(
        loaded, batches, tokenizer, dataset.classes, dataset.templates, device="cpu", amp=False
    )
    batches, _ = loader("captioned", "zeroshot_retrieval")
    theirs |= zeroshot_retrieval.evaluate(
        loaded, batches, tokenizer, device="cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    embedder = Embedder(encoder=load_encoder(model), cache=tmp_path / "cache")
    results = evaluate(embedder, sets, tmp_path / "out").results
    ours = values(results)
    names = {"top1": "acc1", "top5": "acc5", "mean_per_class": "mean_per_class_recall"}
    for k in (1, 5, 10):
        names[f"image_to_text_recall@{k}"] = f"text_retrieval_recall@{k}"
        names[f"text_to_image_recall@{k}"] = f"image_retrieval_recall@{k}"
    assert {ours[name] for name in names} != {0.0}
    for name, theirs_name in names.items():
        assert ours[name] == pytest.approx(theirs[theirs_name], abs=1e-6), name
    top1 = next(result for result in results if result.metric == "top1")
    assert top1.num_classes == 1626
    assert top1.n > 3000
    assert top1.value > 20 * top1.chance
