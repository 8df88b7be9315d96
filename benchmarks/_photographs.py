"""Sets of real photographs, the losses compared on them, and what of a network is trained."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _common as common
from benchmarks.regimes.rows import BY_NAME, REGIMES, Regime, Row, Setting
from mlcore.protocols import PlaceDataset, Split

NUM_BLOCKS = 3


@dataclass(frozen=True)
class Photographs:
    """One set of photographs.

    Attributes:
        name: Of the set and its folder.
        example: File in ``examples/`` with its options; those of the loss, its influence
            function and the network are not taken from there.
        unit_m: What 5 m are on the towns: bands and cutoffs of losses follow from it.
        area_limit_m: Limit of the area.
        in_repository: Whether the photographs are in ``examples/``.
    """

    name: str
    example: str
    unit_m: float
    area_limit_m: float
    in_repository: bool = False

    def options(self) -> dict[str, Any]:
        """Return the tables of the example."""
        path = common.ROOT / "examples" / self.example
        return tomllib.loads(path.read_text(encoding="utf-8"))

    def words(self) -> list[str]:
        """Return what every run has of them, as on the command line, without the folder."""
        tables = self.options()
        words = ["--dataset", "images"]
        for section in ("dataset", "model", "sampling", "evaluation"):
            for name, value in tables[section].items():
                if (section, name) not in (("dataset", "name"), ("dataset", "root")):
                    words += [f"--{section}.{name}", _text(value)]
        return words

    @property
    def radius_m(self) -> float:
        """Radius of Recall@1."""
        return float(self.options()["evaluation"]["recall_radius_m"])

    def rows(self) -> list[Row]:
        """Return the losses that are compared, with values that fit the set."""
        influence = self.options()["influence"]
        cutoff, steepness = influence["cutoff_m"], influence["steepness_per_m"]
        at = ("--influence.cutoff_m", f"{cutoff:g}")
        sigmoid = (*at, "--influence.steepness_per_m", f"{steepness:g}")
        bands = ",".join(f"{number * self.unit_m:g}" for number in (1, 2, 3))
        own = {
            "proposed": sigmoid,
            "proposed+step": at,
            "pml-triplet-margin": (),
            "pml-multi-similarity": (),
            "pml-nt-xent": (),
            "rince": ("--loss.bands_m", bands),
            "similarity-regression": sigmoid[2:],
        }
        rows = [
            replace(BY_NAME[name], words=(*BY_NAME[name].words, *o)) for name, o in own.items()
        ]
        rows[-1] = replace(rows[-1], values=(f"{3 * self.unit_m:g}", f"{2 * self.unit_m:g}"))
        return rows


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


SETS = (
    Photographs("stromovka", "stromovka-pretrained.toml", unit_m=1.0, area_limit_m=25.0),
    Photographs("corridor", "corridor.toml", unit_m=1.0, area_limit_m=25.0),
    Photographs("seneca", "seneca.toml", unit_m=40 / 3, area_limit_m=80.0, in_repository=True),
)


@dataclass(frozen=True)
class Trained:
    """What of the network is trained.

    Attributes:
        name: In tables and folders.
        summary: In words.
        regime: Network, cached features and steps.
        untrained: Words of the pooling that is off the shelf beside it.
        learning_rates: That are tried.
        sets: Names of the sets it is done on.
    """

    name: str
    summary: str
    regime: Regime
    untrained: tuple[str, ...]
    learning_rates: tuple[str, ...]
    sets: tuple[str, ...]

    def tries(self, row: Row) -> list[Setting]:
        """Return the settings that are tried for a loss, as many for each."""
        return [Setting(*pair) for pair in itertools.product(self.learning_rates, row.values)]


LITE0 = ("--backbone", "efficientnet-lite0")
_GRID, _AVERAGE, _GEM = (("--pooling", name) for name in ("grid", "average", "gem"))
_SHARED = (
    *("--pooling", "convap", "--pooling.channels", "64"),
    *("--pooling.rows", "2", "--pooling.columns", "4"),
)
_LINEAR = ("--model.embedding_dim", "256")
_EVERY = tuple(one.name for one in SETS)
_ON_FOOT = _EVERY[:2]
"""Walks along a path, a metre per photograph."""


def _head(
    name: str,
    summary: str,
    untrained: tuple[str, ...],
    words: tuple[str, ...],
    sets: tuple[str, ...] = _ON_FOOT,
) -> Trained:
    regime = replace(
        REGIMES["frozen"],
        summary=summary,
        words=(*LITE0, "--model.trainable_blocks", "none", *words),
        max_steps=60,
    )
    return Trained(name, summary, regime, untrained, ("3e-4", "1e-3"), sets)


def _blocks(name: str, summary: str, pooling: tuple[str, ...]) -> Trained:
    tuned = REGIMES["tuned"]
    words = (*LITE0, "--model.trainable_blocks", str(tuned.blocks), *pooling)
    regime = replace(tuned, summary=summary, words=words, max_steps=60)
    return Trained(name, summary, regime, pooling, ("2e-5", "1e-4"), _ON_FOOT)


TRAINED = (
    _head(
        "grid-linear",
        "a linear head of 256 dimensions over a 2 x 4 grid of means",
        _GRID,
        (*_GRID, *_LINEAR),
        _EVERY,
    ),
    _head(
        "grid-shared",
        "one 1 x 1 convolution to 64 channels for all cells of that grid",
        _GRID,
        _SHARED,
    ),
    _head(
        "average-linear",
        "a linear head of 256 dimensions over the average",
        _AVERAGE,
        (*_AVERAGE, *_LINEAR),
    ),
    _blocks("blocks-average", "the last 3 blocks, average pooling without a head", _AVERAGE),
    _blocks("blocks-gem", "the last 3 blocks, GeM pooling without a head", _GEM),
)


class WithoutBlock:
    """A set whose training leaves out a block of it, which is its validation.

    Blocks are thirds of the training images by easting, so that a block left out is another
    place.

    Args:
        dataset: The set.
        block: Number of the block.
    """

    def __init__(self, dataset: PlaceDataset, block: int) -> None:
        self.original = dataset
        train = dataset.train
        tables = (train.references, train.queries)
        eastings_m = np.concatenate([table.positions_m[:, 0] for table in tables])
        edges_m = np.quantile(eastings_m, np.arange(1, NUM_BLOCKS) / NUM_BLOCKS)
        left_out = [np.searchsorted(edges_m, t.positions_m[:, 0]) == block for t in tables]
        self.train = _part(train, [~rows for rows in left_out])
        self.validation = _part(train, left_out)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)


def _part(split: Split, rows: Sequence[NDArray[np.bool_]]) -> Split:
    return Split(references=split.references.take(rows[0]), queries=split.queries.take(rows[1]))


def named(names: str | None, among: Sequence[Any]) -> list[Any]:
    """Return the members with the names of a comma-separated list; all without one.

    Raises:
        ValueError: There is no such name.
    """
    by_name: Mapping[str, Any] = {one.name: one for one in among}
    chosen = list(by_name) if names is None else names.split(",")
    for name in chosen:
        if name not in by_name:
            raise ValueError(f"must be one of {', '.join(by_name)}, got {name!r}")
    return [by_name[name] for name in chosen]
