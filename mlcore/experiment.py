"""The one place where a run is put together.

In this order: data set, sampler, model, influence function, miner, loss.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mlcore.data.images import letterbox
from mlcore.errors import DataError
from mlcore.factories import BuildContext
from mlcore.models.config import input_size
from mlcore.options import Chosen, RunConfig, run_from_toml
from mlcore.options.config import attribute_errors, model_input_size
from mlcore.protocols import InfluenceFunction, Loss, Miner, PlaceDataset, Progress, no_progress
from mlcore.sampling.batches import TrainingBatches
from mlcore.sampling.planner import TuplePlanner
from mlcore.seeding import derive_seed

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.registry.discovery import Registry
    from mlcore.run_folder import RunFolder


_NUM_INITIAL_IMAGES = 256
"""Images whose local features NetVLAD is initialised from."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, ready to be trained.

    Attributes:
        config: Every option, resolved.
        dataset: The data set.
        planner: What tuples are drawn.
        batches: Tuples as images and geometry, by step.
        model: The network, not yet trained.
        untrained: A copy of it that stays as it is, to compare with.
        influence: The influence function, for a loss that uses one.
        miner: The miner, for a loss that takes mined tuples.
        loss: The loss.
    """

    config: RunConfig
    dataset: PlaceDataset
    planner: TuplePlanner
    batches: TrainingBatches
    model: EmbeddingModel
    untrained: EmbeddingModel
    influence: InfluenceFunction | None
    miner: Miner | None
    loss: Loss

    @property
    def notes(self) -> tuple[str, ...]:
        """What the data set and the sampler found and left out, for the user."""
        return (*self.dataset.notes, *self.planner.notes)


def default_cache() -> Path:
    """Return the folder for what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mlcore"


def open_dataset(config: RunConfig, progress: Progress = no_progress) -> PlaceDataset:
    """Open the data set of a configuration."""
    context = BuildContext(
        seed=derive_seed(config.seed, "dataset"), cache_dir=default_cache(), progress=progress
    )
    dataset: PlaceDataset = _build(config.dataset, context)
    return dataset


def assemble(config: RunConfig, *, progress: Progress = no_progress) -> Experiment:
    """Build everything a training run needs, without training.

    Raises:
        DataError: The data set is missing, malformed or too small for one tuple.
        ConfigError: The components do not fit together.
    """
    dataset = open_dataset(config, progress)
    config = with_input_size(config, dataset)
    planner = TuplePlanner(
        dataset.train,
        config.sampling,
        derive_seed(config.seed, "tuples"),
        other_far="other-far" in config.loss.factory.needs,
    )
    batches = TrainingBatches(
        dataset,
        planner,
        input_size=model_input_size(config),
        seed=derive_seed(config.seed, "augmentation"),
        augment=config.training.augment,
        skip_unreadable=config.training.skip_unreadable,
    )
    model = initial_model(config, dataset, progress)
    limit_deg = config.sampling.near_heading_limit_deg
    context = BuildContext(
        seed=derive_seed(config.seed, "loss"),
        cache_dir=default_cache(),
        progress=progress,
        embedding_dim=model.embedding_dim,
        num_places=planner.num_places,
        near_radius_m=config.sampling.near_radius_m or 0.0,
        far_radius_m=config.sampling.far_radius_m or 0.0,
        near_heading_limit_rad=math.radians(limit_deg),
        tuples_per_batch=config.sampling.tuples_per_batch,
        has_headings=planner.images.headings_rad is not None,
    )
    influence = None if config.influence is None else _build(config.influence, context)
    context = replace(context, influence=influence)
    miner = None if config.miner is None else _build(config.miner, context)
    loss: Loss = _build(config.loss, context)
    torch.manual_seed(derive_seed(config.seed, "training"))
    return Experiment(
        config=config,
        dataset=dataset,
        planner=planner,
        batches=batches,
        model=model,
        untrained=copy.deepcopy(model).eval(),
        influence=influence,
        miner=miner,
        loss=loss,
    )


def build_model(config: RunConfig) -> EmbeddingModel:
    """Build the network with the weights that the run's seed gives it."""
    seed = derive_seed(config.seed, "model")
    torch.manual_seed(seed)
    model: EmbeddingModel = _build(config.model, BuildContext(seed=seed))
    model.normalize = config.loss.factory.normalize
    return model


def initial_model(
    config: RunConfig, dataset: PlaceDataset, progress: Progress = no_progress
) -> EmbeddingModel:
    """Build the network as training starts from it, fitted to images where it needs that."""
    model = build_model(config)
    if model.needs_initialisation:
        model.initialise(_sample_images(dataset, model_input_size(config), progress))
    return model


def with_input_size(config: RunConfig, dataset: PlaceDataset) -> RunConfig:
    """Return the configuration with the input size of the model as numbers.

    It is taken from the first training image where the options leave it open, so that the
    resolved configuration does not depend on the data any more.
    """
    _, image_height, image_width = _first_image(config, dataset).shape
    height, width = input_size(config.model.options, (image_height, image_width))
    options = replace(config.model.options, input_height_px=height, input_width_px=width)
    return replace(config, model=replace(config.model, options=options))


def restore(run: RunFolder, registry: Registry) -> tuple[RunConfig, EmbeddingModel]:
    """Return a run's configuration and its network with the trained weights.

    Raises:
        DataError: The run holds no whole checkpoint, or one of another network.
    """
    config = run_from_toml(run.config, registry)
    checkpoint = run.newest_checkpoint()
    if checkpoint is None:
        raise DataError(f"{run.path} has no checkpoint; train it with 'mlcore train --resume'")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model = build_model(_from_scratch(config))
    weights = {
        name.removeprefix("model."): value
        for name, value in state.items()
        if name.startswith("model.")
    }
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(
            f"{checkpoint} does not fit the model of {run.config}: {error}"
        ) from error
    return config, model.eval()


def _from_scratch(config: RunConfig) -> RunConfig:
    """Return the configuration without pretrained weights, where a checkpoint has them all."""
    if not hasattr(config.model.options, "pretrained"):
        return config
    options = replace(config.model.options, pretrained="none")
    return replace(config, model=replace(config.model, options=options))


def _first_image(config: RunConfig, dataset: PlaceDataset) -> Tensor:
    """Return the first training image, or with ``skip_unreadable`` the first readable one."""
    index = dataset.train.references.index
    if not len(index):
        raise DataError("the training split has no reference image")
    for number in index[:-1]:
        try:
            return dataset.load_image(int(number))
        except DataError:
            if not config.training.skip_unreadable:
                raise
    return dataset.load_image(int(index[-1]))


def _sample_images(
    dataset: PlaceDataset, size: tuple[int, int], progress: Progress
) -> Iterator[Tensor]:
    """Yield evenly spaced training images, one a batch."""
    index = dataset.train.references.index
    rows = np.linspace(0, len(index) - 1, min(_NUM_INITIAL_IMAGES, len(index))).astype(int)
    for done, row in enumerate(rows):
        progress("clustering local features", done, len(rows))
        yield letterbox(dataset.load_image(int(index[row])), *size)[None]


def _build(chosen: Chosen[Any], context: BuildContext) -> Any:
    with attribute_errors(chosen, "could not be built"):
        return chosen.factory.build(chosen.options, context)
