"""The planner of a scheme, and the batches that it plans."""

from __future__ import annotations

from mlcore.options.config import RunConfig, model_input_size
from mlcore.protocols import PlaceDataset, Split
from mlcore.sampling.batches import TrainingBatches
from mlcore.sampling.cliques import CliquePlanner
from mlcore.sampling.places import PlacePlanner
from mlcore.sampling.planner import Planner, TuplePlanner
from mlcore.seeding import derive_seed


def planner_of(config: RunConfig, dataset: PlaceDataset, split: Split, seed: int) -> Planner:
    """Return the planner of the run's scheme.

    Args:
        config: The run.
        dataset: The data set.
        split: Its part that images are drawn from.
        seed: Of the plans.

    Raises:
        DataError: Not a single tuple, or not enough places, can be formed.
    """
    sampling, part_of = config.sampling, getattr(dataset, "part_of", None)
    if sampling.scheme != "tuples":
        make = PlacePlanner if sampling.scheme == "places" else CliquePlanner
        return make(split, sampling, seed, part_of=part_of)
    other_far = "other-far" in config.loss.factory.needs
    return TuplePlanner(split, sampling, seed, other_far=other_far, part_of=part_of)


def batches_of(config: RunConfig, dataset: PlaceDataset, planner: Planner) -> TrainingBatches:
    """Return what a planner plans as images, augmented as the run asks for, and geometry."""
    training = config.training
    return TrainingBatches(
        dataset,
        planner,
        input_size=model_input_size(config),
        seed=derive_seed(config.seed, "augmentation"),
        augment=training.augment,
        augmentations=training.augmentations,
        skip_unreadable=training.skip_unreadable,
    )
