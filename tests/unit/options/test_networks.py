"""How a run's network is chosen: ``--model``, or ``--backbone`` and ``--pooling``."""

from __future__ import annotations

import pytest

from mlcore.errors import ConfigError, UnknownNameError
from mlcore.options import parse_run, run_from_toml, run_to_toml
from mlcore.registry.discovery import Registry


@pytest.fixture(scope="module")
def shipped():
    return Registry.discover()


def names(config):
    return (config.model.name, config.backbone.name, config.pooling.name)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], ("small-cnn", "small-cnn", "gem")),
        (["--model", "vgg16"], ("vgg16", "vgg16", "netvlad")),
        (["--model", "resnet18", "--model.pooling", "boq"], ("resnet18", "resnet18", "boq")),
        (["--backbone", "resnet18"], ("composed", "resnet18", "gem")),
        (["--pooling", "salad"], ("composed", "small-cnn", "salad")),
        (["--backbone", "vgg16", "--pooling", "cls"], ("composed", "vgg16", "cls")),
    ],
)
def test_the_three_forms(shipped, tmp_path, argv, expected):
    config = parse_run(argv, shipped)
    assert names(config) == expected
    (tmp_path / "config.toml").write_text(run_to_toml(config))
    assert run_from_toml(tmp_path / "config.toml", shipped) == config


def test_options_of_a_pair_reach_its_parts(shipped):
    config = parse_run(["--model.width", "8", "--model.pooling", "netvlad"], shipped)
    assert config.backbone.options.width == 8
    assert config.pooling.options.num_clusters == 16


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--model", "vgg16", "--backbone", "resnet18"],
            "--backbone cannot be combined with --model vgg16",
        ),
        (["--model", "vgg16", "--pooling", "gem"], "--model.pooling NAME chooses the pooling"),
        (["--pooling.num_clusters", "3"], "--pooling.num_clusters needs --backbone NAME or"),
        (["--model", "composed"], "--model composed needs --backbone NAME"),
        (["--model.width", "12"], "model 'small-cnn': width must be a positive multiple of 8"),
        (["--model.trainable_blocks", "0"], "trainable_blocks must be at least 1, got 0"),
        (["--model.embedding_dim", "0"], "embedding_dim must be at least 1, got 0"),
    ],
)
def test_what_does_not_go_together(shipped, argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_run(argv, shipped)


def test_names_that_do_not_exist(shipped):
    with pytest.raises(UnknownNameError, match="unknown backbone 'resnet19'; did you mean"):
        parse_run(["--backbone", "resnet19"], shipped)
    with pytest.raises(ConfigError, match=r"--model.pooling: unknown pooling 'netvlat'"):
        parse_run(["--model.pooling", "netvlat"], shipped)


def test_the_old_name_of_weights(shipped, capsys):
    config = parse_run(["--model", "resnet18", "--model.pretrained", "none"], shipped)
    assert config.model.options.weights == "none"
    assert "--model.pretrained is deprecated" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"--model.weights by its old name"):
        parse_run(
            ["--model", "vgg16", "--model.pretrained", "none", "--model.weights", "x"], shipped
        )


def test_weights_bring_a_learning_rate_that_the_user_overrides(shipped, tmp_path):
    def training(*argv):
        options = parse_run(argv, shipped).training
        return options.learning_rate, options.batch_norm

    assert training() == (3e-3, "live")
    assert training("--model", "resnet18") == (1e-4, "frozen")
    assert training("--backbone", "efficientnet-lite0") == (1e-4, "frozen")
    assert training("--backbone", "resnet18", "--model.weights", "none") == (3e-3, "live")
    rate = ("--training.learning_rate", "1e-5")
    assert training("--model", "resnet18", *rate) == (1e-5, "frozen")
    file = tmp_path / "run.toml"
    file.write_text('[training]\nbatch_norm = "live"\n')
    assert training("--model", "resnet18", "--config", str(file)) == (1e-4, "live")


def test_a_file_of_weights_is_found_from_anywhere(shipped, tmp_path, monkeypatch):
    (tmp_path / "own.pth").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    config = parse_run(["--model", "vgg16", "--model.weights", "own.pth"], shipped)
    assert config.model.options.weights == str(tmp_path / "own.pth")
    assert config.training.learning_rate == 1e-4


def test_a_network_of_parts_starts_from_what_its_backbone_offers(shipped):
    assert parse_run(["--backbone", "resnet18"], shipped).model.options.weights == "imagenet"
    assert parse_run(["--pooling", "gem"], shipped).model.options.weights == "none"
