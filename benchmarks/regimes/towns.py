"""Towns whose images went through the frozen part of a network once.

Shapes: ``N`` images of all splits of a town, ``...`` the shape of what is cached of one image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.regimes.rows import Regime
from mlcore.data.images import letterbox
from mlcore.experiment import initial_model, open_dataset, with_input_size
from mlcore.files import atomic_write
from mlcore.models.networks import Network
from mlcore.options import RunConfig
from mlcore.options.config import model_input_size
from mlcore.protocols import Features, PlaceDataset, PlaceTable, Split
from mlcore.seeding import derive_seed

_IMAGES_AT_ONCE = 64
QUICK_TOWN = (
    *("--dataset.train_length_m", "200", "--dataset.validation_length_m", "100"),
    *("--dataset.test_length_m", "100"),
)
"""Options of a short route, for all benchmarks in their quick form: it is drawn once."""


class NoisyTraining:
    """A data set whose training positions have noise; nothing else differs.

    Args:
        dataset: The data set.
        deviation_m: Standard deviation of the normal noise on each axis, in metres.
        seed: Of the noise, which is drawn once per image.
    """

    def __init__(self, dataset: PlaceDataset, deviation_m: float, seed: int) -> None:
        self.original = dataset
        generator = np.random.default_rng(seed)
        train = dataset.train
        self.train = Split(
            references=_moved(train.references, deviation_m, generator),
            queries=_moved(train.queries, deviation_m, generator),
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _moved(table: PlaceTable, deviation_m: float, generator: np.random.Generator) -> PlaceTable:
    noise_m = deviation_m * generator.standard_normal(table.positions_m.shape)
    return replace(table, positions_m=table.positions_m + noise_m)


@dataclass(frozen=True)
class Town:
    """A town with what is cached of its images.

    Attributes:
        dataset: The town; with noise on its training positions if that was asked for.
        cached: ``(N, ...)`` pixels (uint8) or features (float32).
        slot: ``(largest index + 1,)`` int64, the row of ``cached`` of each image, -1 for none.
    """

    dataset: PlaceDataset
    cached: Tensor
    slot: NDArray[np.int64]

    def of(self, index: NDArray[np.int64]) -> Tensor:
        """Return what is cached of images, by index."""
        return self.cached[torch.from_numpy(self.slot[index])]


class TopOfNetwork(nn.Module):
    """The part of a network above what is cached.

    Args:
        model: The network; a part of it is then trained in place.
        blocks: Blocks of its backbone above the cached features; None: images are cached.
    """

    def __init__(self, model: Network, blocks: int | None) -> None:
        super().__init__()
        self.model = model
        self.blocks = blocks

    def forward(self, cached: Tensor) -> Tensor:
        """Return embeddings ``(B, D)`` of ``(B, ...)``."""
        if self.blocks is None:
            found: Tensor = self.model(cached)
            return found
        embeddings = self.model.pool(Features(self.maps(cached), None))
        return normalize(embeddings, dim=1) if self.model.normalize else embeddings

    def maps(self, cached: Tensor) -> Tensor:
        """Return the features that are pooled, of cached ones."""
        for block in _last(self.model, self.blocks or 0):
            cached = block(cached)
        return cached


def open_town(config: RunConfig, regime: Regime, folder: Path, noise_m: float = 0.0) -> Town:
    """Open a town and read its cache, which is computed the first time.

    Args:
        config: A run on this town in this regime; its loss does not matter.
        regime: What is cached.
        folder: Of the caches.
        noise_m: Standard deviation of the noise on each axis of training positions.
    """
    dataset = open_dataset(config)
    splits = (dataset.train, dataset.validation, dataset.test)
    tables = [table for split in splits for table in (split.references, split.queries)]
    index = np.unique(np.concatenate([table.index for table in tables]))
    slot = np.full(int(index[-1]) + 1, -1)
    slot[index] = np.arange(len(index))
    below = f"{dataset.fingerprint} {regime.words} {regime.blocks}"
    path = folder / f"{hashlib.sha256(below.encode()).hexdigest()[:16]}.npy"
    if not path.exists():
        config, _ = with_input_size(config, dataset)
        cached = _computed(config, regime, dataset, index)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            np.save(file, cached)
    if noise_m:
        seed = derive_seed(config.seed, "position noise")
        dataset = NoisyTraining(dataset, noise_m, seed)  # type: ignore[assignment]
    return Town(dataset, torch.from_numpy(np.load(path)), slot)


def _computed(
    config: RunConfig, regime: Regime, dataset: PlaceDataset, index: NDArray[np.int64]
) -> NDArray[Any]:
    size = model_input_size(config)
    pixels = (letterbox(dataset.load_image(int(image)), *size) for image in index)
    if regime.blocks is None:
        return torch.stack(list(pixels)).numpy()
    model = initial_model(config, dataset)
    assert isinstance(model, Network)
    found = [_features(model.eval(), regime.blocks, batch) for batch in _batches(pixels)]
    return torch.cat(found).numpy()


def _batches(images: Iterator[Tensor]) -> Iterator[Tensor]:
    batch: list[Tensor] = []
    for image in images:
        batch.append(image)
        if len(batch) == _IMAGES_AT_ONCE:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


@torch.no_grad()
def _features(model: Network, blocks: int, images: Tensor) -> Tensor:
    """Return what enters the last blocks; checked to lead to the network's own features."""
    with _inputs(_last(model, blocks)) as entering:
        maps = model.features(images).maps
    below = entering[0] if blocks else maps
    torch.testing.assert_close(TopOfNetwork(model, blocks).maps(below), maps)
    return below.contiguous()


def _last(model: Network, number: int) -> Sequence[nn.Module]:
    blocks = model.backbone.blocks
    return blocks[len(blocks) - number :]


@contextmanager
def _inputs(blocks: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what enters each block."""
    found: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        found.append(arguments[0])

    handles = [block.register_forward_pre_hook(keep) for block in blocks]
    yield found
    for handle in handles:
        handle.remove()
