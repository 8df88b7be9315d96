"""The losses of the comparison, the settings that are tried, and the regimes.

Every loss gets six tries: three learning rates by two values of its most important constant,
the default and another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

LEARNING_RATES = ("1e-4", "3e-4", "1e-3")


class Setting(NamedTuple):
    """One try: texts as on the command line.

    Attributes:
        learning_rate: Peak learning rate.
        value: Of the row's constant.
    """

    learning_rate: str
    value: str


@dataclass(frozen=True)
class Row:
    """One loss of the comparison.

    Attributes:
        name: In tables and folders.
        words: Options that choose the loss.
        constant: Its most important option.
        values: The values of it that are tried; the first is the default.
        graded: Whether the loss uses metres beyond a threshold, as the newer rivals do.
    """

    name: str
    words: tuple[str, ...]
    constant: str
    values: tuple[str, ...]
    graded: bool = False

    @property
    def settings(self) -> list[Setting]:
        """The tries of the search."""
        return [Setting(*pair) for pair in itertools.product(LEARNING_RATES, self.values)]

    def options(self, setting: Setting) -> list[str]:
        """Return the options of ``mlcore train`` of one try."""
        chosen = [f"--{self.constant}", setting.value] if self.constant else []
        return [*self.words, *chosen, "--training.learning_rate", setting.learning_rate]


def _row(loss: str, constant: str, *values: str, graded: bool = False) -> Row:
    return Row(loss, ("--loss", loss), f"loss.{constant}", values, graded)


def _soft_supcon(variant: str) -> Row:
    words = ("--loss", "soft-supcon", "--loss.variant", variant)
    values = ("0.1", "0.05")
    return Row(f"soft-supcon-{variant}", words, "loss.temperature", values, graded=True)


PROPOSED = _row("proposed", "base", "1.0", "0.8")

ROWS = (
    PROPOSED,
    Row(
        "proposed+step",
        ("--loss", "proposed", "--influence", "step"),
        "loss.base",
        PROPOSED.values,
    ),
    _row("multi-similarity-paper", "base", "1.0", "0.8"),
    _row("triplet", "margin", "0.1", "0.3"),
    _row("lazy-triplet", "margin", "0.1", "0.3"),
    _row("hard-positive-triplet", "margin", "0.1", "0.3"),
    _row("quadruplet", "margin", "0.1", "0.3"),
    _row("lazy-quadruplet", "margin", "0.1", "0.3"),
    _row("triplet-huber", "margin", "0.1", "0.3"),
    _row("log-ratio", "position_floor_m", "1.0", "2.5"),
    _row("generalized-contrastive", "margin", "0.5", "0.75"),
    _row("pml-contrastive", "neg_margin", "1.0", "0.5"),
    _row("pml-triplet-margin", "margin", "0.05", "0.1"),
    _row("pml-nt-xent", "temperature", "0.07", "0.035"),
    _row("pml-circle", "m", "0.4", "0.25"),
    _row("pml-multi-similarity", "base", "0.5", "0.7"),
    _row("pml-proxy-anchor", "alpha", "32", "16"),
    _row("rank-n-contrast", "temperature", "0.5", "0.25", graded=True),
    _soft_supcon("y-aware"),
    _soft_supcon("threshold"),
    _soft_supcon("exponential"),
    _row(
        "rince",
        "temperatures",
        "0.1,0.15,0.2",
        "0.05,0.075,0.1",
        graded=True,
    ),
    _row("cosent", "scale", "20", "10", graded=True),
    _row("graded-ap", "temperature", "0.01", "0.03", graded=True),
    _row("smooth-ap", "temperature", "0.01", "0.03", graded=True),
    _row("recall-at-k", "similarity_temperature", "0.01", "0.03", graded=True),
    Row(  # the loss has no constant of its own
        "similarity-regression",
        ("--loss", "similarity-regression"),
        "influence.cutoff_m",
        ("15", "10"),
        graded=True,
    ),
    _row("adaptive-margin", "margin", "1.4142135623730951", "0.7", graded=True),
    _row("distance-triplet", "margin", "0.3", "0.1", graded=True),
    _row("stress", "range_m", "25", "15", graded=True),
)

BY_NAME = {row.name: row for row in ROWS}

RegimeName = Literal["scratch", "frozen", "tuned"]


@dataclass(frozen=True, kw_only=True)
class Regime:
    """What is trained, from which weights, on which towns.

    Attributes:
        name: Its name.
        summary: For the table.
        words: Options of the network.
        blocks: Blocks of the backbone above the cached features; None: images are cached.
        augment: Whether images are augmented; cached features cannot be.
        towns: Seeds of the towns.
        seeds: Seeds of training.
        max_steps: Steps of training.
        num_rows: Only this many rows, the best on validation in the frozen regime; None: all.
        limit_s: Most seconds of one core that one run may take.
    """

    name: RegimeName
    summary: str
    words: tuple[str, ...]
    blocks: int | None
    augment: bool
    towns: tuple[int, ...]
    seeds: tuple[int, ...]
    max_steps: int
    num_rows: int | None
    limit_s: float

    def options(self) -> list[str]:
        """Return its options of ``mlcore train``."""
        return [*self.words, "--training.augment", str(self.augment).lower()]


_LITE0 = ("--backbone", "efficientnet-lite0")
_TUNED_BLOCKS = 3

REGIMES = {
    regime.name: regime
    for regime in (
        Regime(
            name="scratch",
            summary="small-cnn from random weights",
            words=("--model", "small-cnn"),
            blocks=None,
            augment=True,
            towns=(0, 11),
            seeds=(0, 1, 2),
            max_steps=500,
            num_rows=None,
            limit_s=90,
        ),
        Regime(
            name="frozen",
            summary="EfficientNet-Lite0 with ImageNet weights, frozen, and a grid of means; a "
            "linear head of 256 dimensions is trained on cached features",
            words=(*_LITE0, "--model.trainable_blocks", "none", "--model.embedding_dim", "256"),
            blocks=0,
            augment=False,
            towns=(0, 11, 12, 13),
            seeds=(0, 1, 2),
            max_steps=1000,
            num_rows=None,
            limit_s=20,
        ),
        Regime(
            name="tuned",
            summary=f"EfficientNet-Lite0 with ImageNet weights and a grid of means, without a "
            f"head; its last {_TUNED_BLOCKS} blocks are trained on the cached features below",
            words=(*_LITE0, "--model.trainable_blocks", str(_TUNED_BLOCKS)),
            blocks=_TUNED_BLOCKS,
            augment=False,
            towns=(0, 11),
            seeds=(0, 1),
            max_steps=1000,
            num_rows=8,
            limit_s=180,
        ),
    )
}

SEARCH_TOWN = 1


def rows_named(names: str) -> Sequence[Row]:
    """Return the rows of a comma-separated list; ValueError names an unknown one."""
    unknown = [name for name in names.split(",") if name not in BY_NAME]
    if unknown:
        raise ValueError(f"no row is called {unknown[0]!r}; rows: {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in names.split(",")]
