"""The one place where a run is put together.

In this order: data set, sampler, backbone, pooling, model, influence function, miner, loss.
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
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore.models.config import input_size
from mlcore.models.weights import LoadedWeights, load_weights, locate
from mlcore.options import Chosen, RunConfig, run_from_toml
from mlcore.options.config import blamed_on, model_input_size
from mlcore.protocols import (
    FeatureShape,
    InfluenceFunction,
    Loss,
    Miner,
    PlaceDataset,
    Progress,
    no_progress,
)
from mlcore.run_folder import RunFolder
from mlcore.sampling.batches import TrainingBatches
from mlcore.sampling.planner import TuplePlanner
from mlcore.seeding import derive_seed

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.registry.discovery import Registry


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
        weights: The weights that it starts from; None for random ones.
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
    weights: LoadedWeights | None
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
    model, weights = initialised(config, dataset, progress)
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
    _require_trainable(config, model, loss)
    torch.manual_seed(derive_seed(config.seed, "training"))
    return Experiment(
        config=config,
        dataset=dataset,
        planner=planner,
        batches=batches,
        model=model,
        untrained=copy.deepcopy(model).eval(),
        weights=weights,
        influence=influence,
        miner=miner,
        loss=loss,
    )


def build_model(config: RunConfig) -> EmbeddingModel:
    """Build the network with the random weights that the run's seed gives it."""
    seed = derive_seed(config.seed, "model")
    torch.manual_seed(seed)
    context = BuildContext(seed=seed, input_size_px=_known_input_size(config))
    if config.backbone is not None and config.pooling is not None:
        backbone = _build(config.backbone, context)
        context = replace(context, backbone=backbone)
        context = replace(context, features=_features(config, context))
        context = replace(context, pooling=_build(config.pooling, context))
    model: EmbeddingModel = _build(config.model, context)
    model.normalize = config.loss.factory.normalize
    return model


def initial_model(
    config: RunConfig, dataset: PlaceDataset, progress: Progress = no_progress
) -> EmbeddingModel:
    """Build the network as training starts from it, fitted to images where it needs that."""
    return initialised(config, dataset, progress)[0]


def initialised(
    config: RunConfig, dataset: PlaceDataset, progress: Progress = no_progress
) -> tuple[EmbeddingModel, LoadedWeights | None]:
    """Return the network as training starts from it, and what became of its weights.

    Raises:
        DataError: The weights cannot be had, or are those of another network.
        ConfigError: There are no such weights.
    """
    model = build_model(config)
    weights = _start_from(model, config)
    fitted = weights is not None and any(name.startswith("pooling.") for name in weights.fit)
    if model.needs_initialisation and not fitted:
        model.initialise(_sample_images(dataset, model_input_size(config), progress))
    return model, weights


def _start_from(model: EmbeddingModel, config: RunConfig) -> LoadedWeights | None:
    """Load the weights that the configuration names into the model."""
    source = getattr(config.model.options, "weights", "none")
    if source == "none":
        return None
    offered, name = (), config.model.name
    if config.backbone is not None:
        offered = tuple(config.backbone.factory.weights(config.backbone.options))
        name = config.backbone.name
    path = Path(source)
    if path.is_dir():
        checkpoint = RunFolder.open(path).newest_checkpoint()
        if checkpoint is None:
            raise DataError(f"{path} has no checkpoint to start from (--model.weights)")
        path = checkpoint
    else:
        path = locate(source, offered, default_cache())
    return load_weights(model, path, name)


def _known_input_size(config: RunConfig) -> tuple[int, int] | None:
    height, width = model_input_size(config)
    return None if height is None or width is None else (height, width)


def _features(config: RunConfig, context: BuildContext) -> FeatureShape:
    """Return what the backbone gives its pooling.

    Raises:
        ConfigError: The pooling needs a class token and there is none.
    """
    assert context.backbone is not None
    assert config.pooling is not None
    assert config.backbone is not None
    needs = config.pooling.factory.needs
    size = context.input_size_px if "size" in needs else None
    with blamed_on(config.backbone, "could not embed an image of the input's size"):
        shape = context.backbone.feature_shape(size)
    if "token" in needs and not shape.has_token:
        raise ConfigError(
            f"pooling {config.pooling.name!r} needs a class token, and backbone "
            f"{config.backbone.name!r} has none; choose another --pooling or a transformer"
        )
    return shape


def _require_trainable(config: RunConfig, model: EmbeddingModel, loss: Loss) -> None:
    """Raise ConfigError if there is nothing that training could change."""
    if not config.model.factory.trainable:
        raise ConfigError(
            f"model {config.model.name!r} has nothing to train; it is a row of every run's "
            "table anyway (--evaluation.baselines), so choose another --model"
        )
    parameters = [*model.parameters(), *loss.parameters()]
    if not any(parameter.requires_grad for parameter in parameters):
        raise ConfigError(
            "--model.trainable_blocks none leaves nothing to train: pooling, projection and "
            "loss have no parameters; give --model.embedding_dim, another --pooling, or train "
            "the last blocks"
        )


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
    if not hasattr(config.model.options, "weights"):
        return config
    options = replace(config.model.options, weights="none")
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
    with blamed_on(chosen, "could not be built"):
        return chosen.factory.build(chosen.options, context)
