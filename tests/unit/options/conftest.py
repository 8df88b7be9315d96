"""A registry of small made-up components, so that no test depends on what is installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from mlcore import DatasetFactory, InfluenceFactory, LossFactory, MinerFactory, SamplingRadii
from mlcore.factories import Factory, ModelFactory
from mlcore.option_types import POSITIVE, Range, RelativeTo
from mlcore.protocols import Pairs, Triplets
from mlcore.registry.discovery import Plugin, Registry


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No options."""


@dataclass(frozen=True, kw_only=True)
class Soft:
    """Options of the soft loss.

    Attributes:
        alpha: Growth of the pull, at most
            100 % of beta.
        beta: Growth of the push.
        mining: Whether to mine.
        limit_m: Support in metres, inf allowed.
        heading_limit_rad: Largest heading difference, or none.
        step: A number, or a word.
    """

    alpha: float = 2.0
    beta: Annotated[float, POSITIVE] = 50.0
    mining: bool = True
    limit_m: float = float("inf")
    heading_limit_rad: float | None = 1.0
    step: Annotated[float | Literal["auto", "none"], Range(infinite=True)] = "auto"

    def __post_init__(self) -> None:
        if self.alpha > self.beta:
            raise ValueError(f"alpha {self.alpha} must not exceed beta {self.beta}")


@dataclass(frozen=True, kw_only=True)
class Margin:
    """Options.

    Attributes:
        margin: Margin of the embedding distance.
    """

    margin: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Cutoff:
    """Options.

    Attributes:
        cutoff_m: Distance in metres.
    """

    cutoff_m: float = 15.0


@dataclass(frozen=True, kw_only=True)
class Town:
    """Options of every type there is.

    Attributes:
        root: Folder.
        table: File in it.
        limit: Largest number of images, or none.
        split: Which part.
        conditions: Names of the conditions.
        size_px: Height and width.
        label: Any text, or none.
        places: Any text.
        shift: Any number.
    """

    root: Path | None = None
    table: Annotated[Path | None, RelativeTo("root")] = None
    limit: int | None = None
    split: Literal["train", "none", 3] = "train"
    conditions: tuple[str, ...] = ("night", "snow")
    size_px: tuple[int, int] = (48, 64)
    label: str | None = "town"
    places: str = ""
    shift: float = 0.0


def factory(kind: type[Factory], name: str, config: type = Nothing, **rest: Any) -> Any:
    return kind(name=name, summary=f"{name}.", config=config, build=lambda *_: None, **rest)


FACTORIES = (
    factory(
        LossFactory, "soft", Soft, aliases=("proposed",), uses_influence=True, mining="internal"
    ),
    factory(LossFactory, "triplet", Margin, mining="external", accepts=Triplets),
    factory(LossFactory, "contrastive", Margin, mining="external", accepts=Pairs),
    factory(LossFactory, "proxy"),
    factory(InfluenceFactory, "sigmoid", Cutoff),
    factory(MinerFactory, "geometric-pairs", produces=Pairs),
    factory(MinerFactory, "geometric-triplets", produces=Triplets),
    factory(
        DatasetFactory,
        "streets",
        Town,
        radii=SamplingRadii(near_radius_m=7.0, far_radius_m=9.0),
    ),
    factory(DatasetFactory, "village"),
)


@pytest.fixture
def registry() -> Registry:
    plugin = Plugin(
        name="demo", distribution="demo", version="1", status="ok", factories=FACTORIES
    )
    return Registry([plugin], [factory(ModelFactory, "small-cnn")])
