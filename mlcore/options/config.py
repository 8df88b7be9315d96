"""A run's complete configuration, as the rest of the engine gets it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlcore.errors import MlcoreError, PluginError
from mlcore.factories import (
    BackboneFactory,
    DatasetFactory,
    Factory,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
    PoolingFactory,
)
from mlcore.options.engine import EvaluationOptions, SamplingOptions, TrainingOptions

F_co = TypeVar("F_co", bound=Factory, covariant=True)

COMPONENTS: dict[str, type[Factory]] = {
    "dataset": DatasetFactory,
    "model": ModelFactory,
    "backbone": BackboneFactory,
    "pooling": PoolingFactory,
    "loss": LossFactory,
    "influence": InfluenceFactory,
    "miner": MinerFactory,
}
"""The sections that choose a component, in the order of the resolved file."""

ENGINE: dict[str, type[Any]] = {
    "sampling": SamplingOptions,
    "training": TrainingOptions,
    "evaluation": EvaluationOptions,
}
"""The sections of the engine's own options."""


@dataclass(frozen=True, kw_only=True)
class Chosen(Generic[F_co]):
    """A component that a configuration has chosen.

    Attributes:
        name: As a configuration file names it: ``plugin:name`` where the bare name is
            provided by several plugins.
        factory: What builds it.
        options: An instance of ``factory.config``.
    """

    name: str
    factory: F_co
    options: Any


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run; equal configurations give equal runs.

    Attributes:
        seed: Seed from which all others are derived.
        dataset: The data set.
        model: The embedding model.
        backbone: Its backbone; None for a whole network.
        pooling: Its pooling; likewise.
        loss: The loss.
        influence: The influence function; None for a loss that uses none.
        miner: The miner; None for a loss that takes no mined tuples.
        sampling: How tuples are drawn; the radii are numbers, never None.
        training: How the model is trained.
        evaluation: How the result is judged.
    """

    seed: int
    dataset: Chosen[DatasetFactory]
    model: Chosen[ModelFactory]
    backbone: Chosen[BackboneFactory] | None = None
    pooling: Chosen[PoolingFactory] | None = None
    loss: Chosen[LossFactory]
    influence: Chosen[InfluenceFactory] | None
    miner: Chosen[MinerFactory] | None
    sampling: SamplingOptions
    training: TrainingOptions
    evaluation: EvaluationOptions


def model_input_size(config: RunConfig) -> tuple[int, int]:
    """Return height and width in pixels of the model's input, of a resolved configuration."""
    options = config.model.options
    return options.input_height_px, options.input_width_px


@contextmanager
def blamed_on(chosen: Chosen[Any], doing: str) -> Iterator[None]:
    """Turn what a component raises into one error that names it.

    What it raises as an error of mlcore's, or of the operating system's, says enough by itself.

    Args:
        chosen: The component.
        doing: What it was asked for, as in "could not be built".

    Raises:
        PluginError: It raised something else; with its known limits.
    """
    try:
        yield
    except (MlcoreError, OSError):
        raise
    except Exception as error:
        raise PluginError(
            f"{chosen.factory.kind} {chosen.name!r} {doing}: {type(error).__name__}: {error}."
            f"{known_limits(chosen)} 'mlcore plugins {chosen.name}' tells whose it is, "
            "--traceback where it failed"
        ) from error


def known_limits(chosen: Chosen[Any]) -> str:
    """Return a sentence on the limits that a component declares; nothing if there are none."""
    limits = "; ".join(chosen.factory.limits.values())
    return f" Its known limits: {limits}." if limits else ""
