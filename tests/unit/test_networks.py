"""What the engine makes of backbones and poolings: choice, freezing, weights."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from mlcore import Features, Weights
from mlcore.errors import ConfigError, DataError, UnknownNameError
from mlcore.models import Backbone, Network, Pooling
from mlcore.models.tuning import depths, train_last
from mlcore.models.weights import load_weights, locate


class Tiny(Backbone):
    """A stem, two blocks and a norm."""

    def __init__(self, width=4):
        super().__init__()
        self.num_channels = width
        self.stem = nn.Conv2d(3, width, 1)
        self.body = nn.Sequential(nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1))
        self.norm = nn.BatchNorm2d(width)

    @property
    def blocks(self):
        return list(self.body)

    def forward(self, images):
        return Features(self.norm(self.body(self.stem(images))))


class Mean(Pooling):
    def __init__(self, width=4):
        super().__init__()
        self.output_dim = width
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, features):
        return features.maps.mean((2, 3)) * self.scale


def network(width=4, dim=None):
    return Network(Tiny(width), Mean(width), dim)


def test_a_parameter_belongs_to_the_block_before_it():
    assert depths(Tiny()) == {
        "stem.weight": 0,
        "stem.bias": 0,
        "body.0.weight": 1,
        "body.0.bias": 1,
        "body.1.weight": 2,
        "body.1.bias": 2,
        "norm.weight": 2,
        "norm.bias": 2,
    }


@pytest.mark.parametrize(
    ("number", "trained"),
    [
        ("all", {"stem", "body.0", "body.1", "norm"}),
        (2, {"body.0", "body.1", "norm"}),
        (1, {"body.1", "norm"}),
        ("none", set()),
    ],
)
def test_the_last_blocks_are_trained_and_the_rest_stays(number, trained):
    model = network()
    train_last(model.backbone, number)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    model(torch.rand(3, 3, 4, 4)).mul(torch.arange(4)).sum().backward()
    optimizer.step()
    changed = {
        name.rpartition(".")[0]
        for name, value in model.backbone.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == trained
    assert model.backbone.norm.training == ("norm" in trained)


def test_more_blocks_than_there_are():
    with pytest.raises(ConfigError, match=r"trainable_blocks 3: the backbone has 2 blocks"):
        train_last(Tiny(), 3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state, "epoch": 3},
        lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "module"],
)
def test_weights_of_a_backbone_by_any_wrapping(tmp_path, wrap):
    source, model = Tiny(), network()
    state = {**source.state_dict(), "head.weight": torch.zeros(5, 4)}
    torch.save(wrap(state), tmp_path / "weights.pth")
    loaded = load_weights(model, tmp_path / "weights.pth")
    for name, value in source.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], value), name
    assert loaded.by_part == [
        ("backbone", len(source.state_dict()), 0, 0),
        ("pooling", 0, 1, 0),
        ("head", 0, 0, 1),
    ]
    assert len(loaded.sha256) == 64


def test_weights_of_a_checkpoint_fit_where_they_fit(tmp_path):
    source, model = network(dim=6), network(dim=3)
    with torch.no_grad():
        source.pooling.scale.fill_(7.0)
    state = {f"model.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state | {"loss.proxies": torch.zeros(3)}}, tmp_path / "a.ckpt")
    before = model.projection.weight.clone()
    loaded = load_weights(model, tmp_path / "a.ckpt")
    assert torch.equal(model.pooling.scale, source.pooling.scale)
    assert torch.equal(model.backbone.stem.weight, source.backbone.stem.weight)
    assert torch.equal(model.projection.weight, before)
    assert loaded.missing == ("projection.weight", "projection.bias")


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    source, model = Tiny(), network()
    save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_weights(model, tmp_path / "weights.safetensors")
    assert torch.equal(model.backbone.stem.weight, source.stem.weight)


class Stranger:
    """Something that only a pickle can bring back."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not weights", "(--model.weights): it is not a file that torch.save wrote"),
        (b"hello, this is text", "(--model.weights): it is not a file that torch.save wrote"),
        (b"", "(--model.weights): it is empty"),
        ({"stem.weight": Stranger()}, "Python objects beside tensors"),
        ([1, 2], "is not a state dictionary"),
        ({}, "is not a state dictionary"),
        (Tiny(8).state_dict(), "does not hold the weights of tiny: of its 10 tensors"),
        ({"other": torch.zeros(3)}, "does not hold the weights of tiny"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_that_are_no_weights_are_refused_in_one_line(tmp_path, content, message, suffix):
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(DataError) as raised:
        load_weights(network(), path, "tiny")
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    if suffix == ".pth":
        assert message in str(raised.value)


def test_a_file_of_weights_runs_no_code(tmp_path):
    class Runs:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w').close()",)

    with (tmp_path / "pickled.pth").open("wb") as file:
        pickle.dump({"stem.weight": Runs()}, file)
    with pytest.raises(DataError, match=r"pickled\.pth .* not a file that torch.save wrote"):
        load_weights(network(), tmp_path / "pickled.pth")
    torch.save({"stem.weight": Runs()}, tmp_path / "saved.pth")
    with pytest.raises(DataError, match=r"saved\.pth holds Python objects beside tensors"):
        load_weights(network(), tmp_path / "saved.pth")
    assert not (tmp_path / "ran").exists()


def test_published_weights_offline_say_where_to_put_them(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("offline")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    offered = [Weights(name="imagenet", file="net.pth", address="ftp://where/net.pth")]
    with pytest.raises(DataError) as raised:
        locate("imagenet", offered, tmp_path)
    assert str(raised.value) == (
        "the weights 'imagenet' cannot be downloaded (offline); put ftp://where/net.pth at "
        f"{tmp_path / 'weights' / 'net.pth'}, or give --model.weights none or the path of a file"
    )
    (tmp_path / "weights" / "net.pth").write_bytes(b"x")
    assert locate("imagenet", offered, tmp_path) == tmp_path / "weights" / "net.pth"


def test_published_weights_are_known_by_their_hash(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "net.pth").write_bytes(b"changed")
    offered = [Weights(name="imagenet", file="net.pth", sha256="00ff")]
    with pytest.raises(DataError, match=r"not the published file .* SHA-256"):
        locate("imagenet", offered, tmp_path)


def test_weights_of_a_package_that_is_not_there(tmp_path):
    offered = [Weights(name="a", file="x.pth", package="no_such_package", install="nosuch[x]")]
    with pytest.raises(
        ConfigError, match=r"needs no_such_package, .* pip install 'nosuch\[x\]'"
    ):
        locate("a", offered, tmp_path)


def test_names_and_files_that_do_not_exist(tmp_path):
    offered = [Weights(name="imagenet", file="net.pth")]
    with pytest.raises(
        UnknownNameError, match=r"unknown weights of tiny 'imagenett'; did you mean 'imagenet'"
    ):
        locate("imagenett", offered, tmp_path, "tiny")
    with pytest.raises(
        ConfigError, match=r"--model.weights imagenet: no weights are published for tiny; give"
    ):
        locate("imagenet", [], tmp_path, "tiny")
    with pytest.raises(
        DataError, match=r"no file of weights at .*none.pth \(--model.weights\)"
    ):
        locate(str(tmp_path / "none.pth"), offered, tmp_path)
