"""Exports give others the embeddings of the run, and say by how much they differ."""

from __future__ import annotations

import csv
import json

import faiss
import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from mlcore.deployment.exchange import model_card, write_faiss, write_hloc, write_safetensors
from mlcore.deployment.graph import EmbeddingGraph
from mlcore.deployment.model_folder import load_model
from mlcore.deployment.onnx_file import onnx_runner, to_onnx
from mlcore.deployment.parity import TOLERANCE, made_images, measure_parity
from mlcore.deployment.torch_program import to_torch_program, torch_runner
from mlcore.errors import ConfigError, DataError
from mlcore.registry.discovery import Registry
from mlcore.retrieval.search import search

from .conftest import save


def opened(saved):
    return load_model(saved.path, Registry.discover())


def graph_of(deployed, *, channels_last=False):
    return EmbeddingGraph(
        deployed.network,
        deployed.info.input_size,
        deployed.whitening,
        channels_last=channels_last,
    )


@pytest.mark.parametrize(
    ("words", "channels_last"),
    [
        ((), False),
        ((), True),
        (("--model.pooling", "netvlad", "--model.num_clusters", "4"), False),
    ],
    ids=["gem", "gem BHWC", "netvlad"],
)
def test_onnx_gives_the_embeddings_of_the_run(tmp_path, words, channels_last):
    deployed = opened(save(tmp_path / "model", *words))
    content = to_onnx(graph_of(deployed, channels_last=channels_last), {"mlcore": "info"})
    parity = measure_parity(
        onnx_runner(content), deployed, made_images()[2:], channels_last=channels_last
    )
    assert 0 < parity < TOLERANCE


@pytest.mark.slow
def test_onnx_without_whitening(tmp_path):
    deployed = opened(save(tmp_path / "model", whitened=False))
    run = onnx_runner(to_onnx(graph_of(deployed), {}))
    assert run(np.zeros((1, 3, 50, 60), np.uint8)).shape == (1, 16)
    assert measure_parity(run, deployed, made_images()[2:4], channels_last=False) < TOLERANCE


@pytest.mark.slow
def test_a_torch_program_gives_the_embeddings_of_the_run(model):
    deployed = opened(model)
    run = torch_runner(to_torch_program(graph_of(deployed), {"mlcore": "info"}))
    assert measure_parity(run, deployed, made_images()[2:], channels_last=False) < TOLERANCE


@pytest.mark.slow
def test_parity_notices_another_network(model, tmp_path):
    other = opened(save(tmp_path / "other", "--seed", "1"))
    run = torch_runner(to_torch_program(graph_of(other), {}))
    parity = measure_parity(run, opened(model), made_images()[2:4], channels_last=False)
    assert parity > 100 * TOLERANCE


class Branching(nn.Module):
    """Decides by the values of a tensor, as no exported graph can."""

    embedding_dim = 2
    normalize = False

    def forward(self, images):
        flat = images.float().mean((2, 3))
        return flat[:, :2] if bool(flat.sum() > 0) else flat[:, 1:]


def test_a_network_that_cannot_be_exported_is_one_sentence():
    graph = EmbeddingGraph(Branching(), (32, 32), None)
    with pytest.raises(ConfigError, match=r"cannot be exported to ONNX: .*branches on the val"):
        to_onnx(graph, {})
    with pytest.raises(ConfigError, match=r"cannot be exported by torch.export: "):
        to_torch_program(graph, {})


@pytest.mark.parametrize(
    ("kind", "error"),
    # Numbers below 4 in 16 bits are off by 2**-10 at most, each of 8 dimensions.
    [("flat", 1e-5), ("fp16", 8**0.5 * 2**-10)],
)
def test_faiss_finds_what_the_map_finds(folder, vectors, tmp_path, kind, error):
    assert np.abs(vectors).max() < 4
    folder.build_index(kind)
    written = write_faiss(tmp_path / "out.faiss", folder)
    assert written == (tmp_path / "out.faiss", tmp_path / "out.csv")
    queries = vectors[::40] + np.float32(0.01)
    squared, rows = faiss.read_index(str(written[0])).search(queries, 1)
    exact = search(vectors, queries, 1)
    assert np.array_equal(rows, exact.row)
    assert np.allclose(np.sqrt(squared), exact.distance, rtol=0, atol=error)
    with written[1].open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(line["row"]) for line in table] == list(range(600))
    assert table[1]["image"] == "001.jpg"
    assert float(table[1]["easting_m"]) == 622_001.25
    assert table[599]["easting_m"] == ""


def test_hloc_reads_descriptors_and_pairs(folder, vectors, tmp_path):
    asked = vectors[[7, 450]] + np.float32(0.001)
    written = write_hloc(tmp_path / "g.h5", folder, ["q/a.jpg", "q/b.jpg"], asked, 3)
    assert [path.name for path in written] == ["g.h5", "g-pairs.txt"]
    with h5py.File(written[0], "r") as file:
        assert np.array_equal(file["007.jpg"]["global_descriptor"], vectors[7])
        assert np.array_equal(file["q/b.jpg"]["global_descriptor"], asked[1])
        assert file["q/a.jpg"]["global_descriptor"].dtype == np.float32
    pairs = [line.split() for line in written[1].read_text().splitlines()]
    assert [query for query, _ in pairs] == ["q/a.jpg"] * 3 + ["q/b.jpg"] * 3
    expected = search(vectors, asked, 3).row.ravel()
    assert [reference for _, reference in pairs] == [f"{row:03d}.jpg" for row in expected]


def test_hloc_without_queries_has_no_pairs(folder, tmp_path):
    assert write_hloc(tmp_path / "g.h5", folder) == (tmp_path / "g.h5",)


def test_what_hloc_cannot_tell_apart_is_refused(folder, vectors, tmp_path):
    with pytest.raises(DataError, match=r"1 query images have the path of a reference.*007"):
        write_hloc(tmp_path / "g.h5", folder, ["./007.jpg"], vectors[:1])
    with pytest.raises(DataError, match=r"cannot hold the space in 'my photo.jpg'"):
        write_hloc(tmp_path / "g.h5", folder, ["my photo.jpg"], vectors[:1])
    assert not (tmp_path / "g.h5").exists()


def test_safetensors_hold_weights_whitening_and_description(model, tmp_path):
    deployed = opened(model)
    path, card = write_safetensors(tmp_path / "net.safetensors", deployed, "a table")
    with safe_open(path, "pt") as file:
        state = deployed.network.state_dict()
        whitening = {"whitening.mean", "whitening.components", "whitening.deviation"}
        assert set(file.keys()) == {*state, *whitening}
        assert all(torch.equal(file.get_tensor(name), state[name]) for name in state)
        mean = file.get_tensor("whitening.mean").numpy()
        assert np.array_equal(mean, model.whitening.mean)
        assert json.loads(file.metadata()["mlcore"])["identity"] == model.info.identity
    text = card.read_text()
    for word in ("# first", "`small-cnn`", "32 x 48 px", "a table", "## Licence", "`abc`"):
        assert word in text


def test_a_card_without_results_or_whitening_says_so(tmp_path):
    text = model_card(opened(save(tmp_path / "model", whitened=False)), "")
    assert "Not recorded with these weights." in text
    assert "| whitening | none |" in text
