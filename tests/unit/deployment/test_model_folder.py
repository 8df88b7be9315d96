"""A model folder gives back the embeddings of its run, and refuses other files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from mlcore.deployment.model_folder import find_model, load_model, read_info
from mlcore.errors import ConfigError, DataError
from mlcore.experiment import build_model
from mlcore.options.raw import read_argv
from mlcore.registry.discovery import Registry

from .conftest import save


def load(path, *words):
    return load_model(path, Registry.discover(), changes=read_argv(words))


def test_the_network_and_its_whitening_come_back(model):
    again = load(model.path)
    images = torch.randint(0, 256, (4, 3, 32, 48), dtype=torch.uint8)
    network = build_model(model.config).eval()
    with torch.inference_mode():
        expected, found = network(images).numpy(), again.network(images).numpy()
    assert np.array_equal(found, expected)
    assert np.array_equal(again.whiten(found), model.whitening(expected))
    assert again.embedder().input_size == (32, 48)
    assert not again.network.training
    assert (again.info.dimensions, again.info.embedding_dim) == (8, 16)
    assert again.info == model.info


def test_a_model_opens_where_only_the_plugin_of_its_network_is_installed(model):
    again = load_model(model.path, Registry.discover(only=["networks"]))
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        found, expected = again.network(images), load(model.path).network(images)
    assert torch.equal(found, expected)
    assert (again.config.dataset.name, again.config.loss.name) == ("none", "none")


def test_a_model_without_whitening(tmp_path):
    saved = save(tmp_path / "model", whitened=False)
    assert not (tmp_path / "model" / "whitening.npz").exists()
    again = load(saved.path)
    assert again.whitening is None
    vectors = np.ones((2, 16), np.float32)
    assert again.whiten(vectors) is vectors


@pytest.mark.parametrize("normalize", [True, False])
def test_whether_embeddings_have_unit_length_is_kept(tmp_path, normalize):
    saved = save(tmp_path / "model", normalize=normalize)
    assert load(saved.path).network.normalize is normalize
    images = torch.randint(0, 256, (1, 3, 32, 48), dtype=torch.uint8)
    with torch.inference_mode():
        length = float(load(saved.path).network(images).norm())
    assert (length == pytest.approx(1.0)) is normalize


def test_the_plugins_of_data_and_loss_are_not_looked_for(tmp_path):
    saved = save(tmp_path / "model")
    text = (saved.path / "model.json").read_text()
    assert "streets" in text  # the data set it says it was trained on
    (saved.path / "model.json").write_text(text.replace('"streets"', '"gone-data"'))
    assert load(saved.path).info.dataset == "gone-data"


def test_options_that_embedding_takes_can_be_changed(model):
    words = ["--evaluation.batch_size", "7", "--training.accelerator", "cpu"]
    embedder = load(model.path, *words).embedder()
    assert (embedder.batch_size, embedder.device.type) == (7, "cpu")
    with pytest.raises(ConfigError, match=r"--model\.width cannot be changed after training"):
        load(model.path, "--model.width", "16")


def test_writing_it_anew_without_whitening_removes_the_old_one(model, tmp_path):
    save(model.path, whitened=False)
    assert load(model.path).whitening is None
    assert read_info(model.path).identity != model.info.identity


def test_identity_follows_what_decides_an_embedding(model, tmp_path):
    others = [
        save(tmp_path / "seed", "--seed", "1"),
        save(tmp_path / "size", "--model.input_width_px", "64"),
        save(tmp_path / "plain", whitened=False),
    ]
    assert len({model.info.identity, *(other.info.identity for other in others)}) == 4
    assert save(tmp_path / "same").info.identity == model.info.identity


def test_it_is_found_in_a_run_and_by_itself(model, tmp_path):
    assert find_model(tmp_path) == model.path
    assert find_model(model.path) == model.path
    assert find_model(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.json", b"{}", r"model.json cannot be read: KeyError\('format'\)"),
        ("model.json", b"[", "model.json cannot be read: JSONDecodeError"),
        ("model.json", b'{"format": 2}', "has format 2, this mlcore reads formats up to 1"),
        ("weights.safetensors", b"", "weights.safetensors is damaged"),
        ("whitening.npz", b"PK", "whitening.npz cannot be read"),
    ],
)
def test_a_damaged_file_is_named(model, name, content, message):
    (model.path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(model.path)


def test_a_missing_file_is_named(model):
    (model.path / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights.safetensors cannot be read: .*No such file"):
        load(model.path)


def test_files_of_two_models_are_refused(model, tmp_path):
    arrays = model.whitening.to_arrays()
    arrays["deviation"] = arrays["deviation"] * 2
    np.savez(model.path / "whitening.npz", **arrays)
    with pytest.raises(DataError, match="are not of one model"):
        load(model.path)


def test_weights_of_another_network_are_refused(model, tmp_path):
    other = save(tmp_path / "other", "--model.width", "16")
    shutil.copy(other.path / "weights.safetensors", model.path)
    content = json.loads((model.path / "model.json").read_text())
    content["weights_sha256"] = other.info.weights_sha256
    (model.path / "model.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="are not of one model"):
        load(model.path)
