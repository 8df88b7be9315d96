"""A model folder and maps, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mlcore.deployment.map_folder import MapFolder
from mlcore.deployment.model_folder import ModelInfo, save_model
from mlcore.experiment import build_model
from mlcore.options import RunConfig, resolve_run
from mlcore.options.raw import read_argv
from mlcore.registry.discovery import Registry
from mlcore.retrieval.whitening import Whitening, fit_whitening

OPTIONS = [
    *("--model.width", "8", "--model.embedding_dim", "16", "--model.input_height_px", "32"),
    *("--model.input_width_px", "48"),
]


@dataclass(frozen=True)
class Saved:
    """A model folder, and what was saved in it."""

    path: Path
    config: RunConfig
    whitening: Whitening
    info: ModelInfo


def save(path: Path, *words: str, whitened: bool = True, normalize: bool = True) -> Saved:
    config = resolve_run(read_argv([*OPTIONS, *words]), Registry.discover())
    network = build_model(config)
    network.normalize = normalize
    rng = np.random.default_rng(0)
    whitening = fit_whitening(
        rng.normal(size=(200, 16)).astype(np.float32) * 0.1, 8, source="train"
    )
    info = save_model(
        path,
        network,
        config,
        whitening if whitened else None,
        confidence=None,
        run="first",
        step=3,
        data_fingerprint="abc",
    )
    return Saved(path, config, whitening, info)


@pytest.fixture
def model(tmp_path: Path) -> Saved:
    """Return a whitened small-cnn of 8 dimensions."""
    return save(tmp_path / "model")


@pytest.fixture
def vectors() -> np.ndarray:
    """Return 600 vectors of 8 dimensions in clumps."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(30, 8))
    noise = rng.normal(scale=0.2, size=(600, 8))
    return (centres.repeat(20, axis=0) + noise).astype(np.float32)


@pytest.fixture
def folder(model: Saved, vectors: np.ndarray, tmp_path: Path) -> MapFolder:
    """Return a map of two shards; the first has positions, the second has none."""
    names = np.array([f"{number:03d}.jpg" for number in range(600)], dtype=object)
    metres = np.arange(400, dtype=np.float64)
    first = {
        "image": names[:400],
        "easting_m": metres + 622_000.25,
        "northing_m": -metres,
        "heading_rad": metres / 400,
        "condition": np.full(400, "night", dtype=object),
    }
    with MapFolder.creating(tmp_path / "map", model.path) as new:
        new.append([(vectors[:400], first), (vectors[400:], {"image": names[400:]})])
    return MapFolder.open(tmp_path / "map")
