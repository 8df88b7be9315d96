"""A run's complete configuration, as the rest of the engine gets it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlcore.factories import (
    DatasetFactory,
    Factory,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
)
from mlcore.settings import EvaluationOptions, SamplingOptions, TrainingOptions

F_co = TypeVar("F_co", bound=Factory, covariant=True)

COMPONENTS: dict[str, type[Factory]] = {
    "dataset": DatasetFactory,
    "model": ModelFactory,
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
    loss: Chosen[LossFactory]
    influence: Chosen[InfluenceFactory] | None
    miner: Chosen[MinerFactory] | None
    sampling: SamplingOptions
    training: TrainingOptions
    evaluation: EvaluationOptions
