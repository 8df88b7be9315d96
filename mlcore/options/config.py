"""A run's complete configuration, and errors attributed to its components."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mlcore.errors import STOPS, ConfigError, MlcoreError, PluginError
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
    """Everything that determines a run; equal configurations give equal runs.

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
        evaluation: How the result is evaluated.
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

    def __post_init__(self) -> None:
        sampling, accumulate = self.sampling, self.training.accumulate
        if accumulate > 1 and sampling.uses_embeddings:  # planned by step
            cliques, size = sampling.scheme == "cliques", sampling.hard_per_tuple
            cause = "scheme cliques" if cliques else f"hard_per_tuple {size}"
            larger = "places_per_batch" if cliques else "tuples_per_batch"
            raise ConfigError(
                f"--training.accumulate {accumulate} cannot be combined with "
                f"--sampling.{cause}; use --sampling.{larger} with --training.chunk_size for a "
                "large batch"
            )
        of_tuples = self.loss.factory.needs & {"tuples", "other-far"}
        if self.training.memory and of_tuples:
            raise ConfigError(
                f"--training.memory {self.training.memory} cannot be combined with --loss "
                f"{self.loss.name}, which compares the images of one tuple; choose a loss that "
                "compares all images, such as proposed"
            )
        if sampling.scheme == "tuples" and not sampling.far_per_tuple and of_tuples:
            raise ConfigError(
                f"--sampling.far_per_tuple 0 cannot be combined with --loss {self.loss.name}, "
                "which compares each anchor with far images; use at least 1, or "
                "--sampling.scheme places"
            )


def model_input_size(config: RunConfig) -> tuple[int, int]:
    """Return height and width in pixels of the model's input, of a resolved configuration."""
    options = config.model.options
    return options.input_height_px, options.input_width_px


@contextmanager
def attribute_errors(chosen: Chosen[Any], what: str) -> Iterator[None]:
    """Attribute exceptions to the component that raised them.

    Errors of mlcore and of the operating system pass unchanged: they already name their
    cause. Exceptions beside ``Exception``, such as
    ``SystemExit``, do not: a component cannot end a run as if it succeeded.

    Args:
        chosen: The component.
        what: What failed, as in "could not be built".

    Raises:
        PluginError: It raised something else; names its known limits.
    """
    try:
        yield
    except (MlcoreError, OSError, UnicodeEncodeError, *STOPS):
        raise
    except BaseException as error:
        raise PluginError(
            f"{chosen.factory.kind} {chosen.name!r} {what}: {type(error).__name__}: {error}."
            f"{known_limits(chosen)} Run 'mlcore plugins {chosen.name}' to see which plugin "
            "provides it; add --traceback for details"
        ) from error


def known_limits(chosen: Chosen[Any]) -> str:
    """Return a sentence on the limits that a component declares; empty if there are none."""
    limits = "; ".join(chosen.factory.limits.values())
    return f" Its known limits: {limits}." if limits else ""
