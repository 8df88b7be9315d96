"""The only place where a run is assembled.

In this order: data set, sampler, model, influence function, miner, loss. Importing this module
does not import torch, so that errors in the data set are reported immediately.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mlcore.data.adaptation import TrainedOnReferences
from mlcore.distributed import require_accelerator
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore.files import user_cache_dir
from mlcore.networks import (
    build_model,
    load_initial_weights,
    model_with,
    require_trainable,
    typical_input_size,
)
from mlcore.options import Chosen, RunConfig, run_from_toml
from mlcore.options.config import attribute_errors, model_input_size
from mlcore.protocols import (
    InfluenceFunction,
    Loss,
    Miner,
    PlaceDataset,
    Progress,
    no_progress,
)
from mlcore.sampling.planner import Planner
from mlcore.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.models.embedding import EmbeddingModel
    from mlcore.models.weights import LoadedWeights
    from mlcore.registry.discovery import Registry
    from mlcore.run_folder import RunFolder
    from mlcore.sampling.batches import TrainingBatches


_NUM_INITIAL_IMAGES = 256
"""Images whose local features NetVLAD is initialised from."""

_NUM_SHAPES = 32
"""Training images whose shapes determine the size of the network's input."""

_MANY_WITH_BARS = 0.1
"""Share of letterboxed images above which the user gets a note."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A run, ready to be trained.

    Attributes:
        config: Every option, resolved.
        dataset: The data set.
        planner: What tuples are drawn.
        batches: Tuples as images and geometry, by step.
        model: The network, not yet trained.
        untrained: A copy that is never trained, for comparison.
        weights: The weights that training starts from; None for random ones.
        influence: The influence function, for a loss that uses one.
        miner: The miner, for a loss that takes mined tuples.
        loss: The loss.
        data_notes: Warnings about the data set, and its faults that the user accepts.
        input_notes: Notes on the network's input and precision for the user.
    """

    config: RunConfig
    dataset: PlaceDataset
    planner: Planner
    batches: TrainingBatches
    model: EmbeddingModel
    untrained: EmbeddingModel
    weights: LoadedWeights | None
    influence: InfluenceFunction | None
    miner: Miner | None
    loss: Loss
    data_notes: tuple[str, ...] = ()
    input_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user of the data set and the sampler."""
        dataset = self.dataset.notes
        return (*dataset, *self.data_notes, *self.planner.notes, *self.input_notes)


def open_dataset(config: RunConfig, progress: Progress = no_progress) -> PlaceDataset:
    """Open the data set of a configuration."""
    context = BuildContext(
        seed=derive_seed(config.seed, "dataset"), cache_dir=user_cache_dir(), progress=progress
    )
    dataset: PlaceDataset = _build(config.dataset, context)
    if config.training.images == "references":
        return cast("PlaceDataset", TrainedOnReferences(dataset))
    return dataset


def check_dataset(config: RunConfig, dataset: PlaceDataset) -> tuple[str, ...]:
    """Refuse a data set with faults that ``dataset.accept_faults`` does not list.

    Returns:
        Warnings, which may distort results but do not stop the run.
    """
    from mlcore.data.soundness import require_sound

    if isinstance(dataset, TrainedOnReferences):
        dataset = dataset.original
    return require_sound(dataset, getattr(config.dataset.options, "accept_faults", ()))


def require_validation(config: RunConfig, dataset: PlaceDataset) -> None:
    """Check that a run that validates has something to validate on.

    Raises:
        ConfigError: The validation split has no reference or no query.
    """
    every = config.training.validate_every
    if not every:
        return  # a data set may refuse a split that it does not have
    split = dataset.validation
    for what, table in (("reference", split.references), ("query", split.queries)):
        if not len(table):
            raise ConfigError(
                f"--training.validate_every {every}: the validation split has no {what} image; "
                "use 0, or give the data set a validation split with references and queries"
            )


def assemble(
    config: RunConfig,
    *,
    dataset: PlaceDataset | None = None,
    data_notes: tuple[str, ...] | None = None,
    progress: Progress = no_progress,
) -> Experiment:
    """Build everything a training run needs, without training.

    Args:
        config: Every option.
        dataset: The data set of ``config``, if it is already open.
        data_notes: What :func:`check_dataset` returned, if it was already called.
        progress: Progress callback for slow parts.

    Raises:
        DataError: The data set is missing, malformed or too small for one tuple.
        ConfigError: The components do not fit together.
    """
    dataset = dataset or open_dataset(config, progress)
    if data_notes is None:
        data_notes = check_dataset(config, dataset)
    config, precision_notes = _with_possible_precision(config)
    config, input_notes = with_input_size(config, dataset)

    import torch

    from mlcore.geometry import require_headings
    from mlcore.sampling.schemes import batches_of, planner_of

    planner = planner_of(config, dataset, dataset.train, derive_seed(config.seed, "tuples"))
    model, weights = initialised(config, dataset, progress)
    context = BuildContext(
        seed=derive_seed(config.seed, "loss"),
        cache_dir=user_cache_dir(),
        progress=progress,
        embedding_dim=model.embedding_dim,
        num_places=planner.num_places,
        near_radius_m=config.sampling.near_radius_m or 0.0,
        far_radius_m=config.sampling.far_radius_m or 0.0,
        near_heading_limit_rad=math.radians(config.sampling.near_heading_limit_deg),
        tuples_per_batch=config.sampling.batch_tuples,
        has_headings=planner.images.headings_rad is not None,
    )
    influence = None if config.influence is None else _build(config.influence, context)
    require_headings(influence, has_headings=context.has_headings)
    context = replace(context, influence=influence)
    miner = None if config.miner is None else _build(config.miner, context)
    loss: Loss = _build(config.loss, context)
    require_trainable(config, model, loss)
    _require_comparing(config, loss)
    torch.manual_seed(derive_seed(config.seed, "training"))
    return Experiment(
        config=config,
        dataset=dataset,
        planner=planner,
        batches=batches_of(config, dataset, planner),
        model=model,
        untrained=copy.deepcopy(model).eval(),
        weights=weights,
        influence=influence,
        miner=miner,
        loss=loss,
        data_notes=data_notes,
        input_notes=(*precision_notes, *input_notes),
    )


def _require_comparing(config: RunConfig, loss: Loss) -> None:
    """Check that the loss of a run with a memory compares images with each other.

    Raises:
        ConfigError: It compares them with trained weights of its own.
    """
    if config.training.memory and has_weights(loss):
        raise ConfigError(
            f"--training.memory {config.training.memory} cannot be combined with --loss "
            f"{config.loss.name}, which compares images with trained weights and not with each "
            "other; choose a loss that compares images, such as proposed"
        )


def has_weights(loss: Loss) -> bool:
    """Return whether a loss has trained weights, such as one proxy per place."""
    own = loss.parameters() if hasattr(loss, "parameters") else ()
    return any(parameter.requires_grad for parameter in own)


def _with_possible_precision(config: RunConfig) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the configuration with a precision that the device supports, and a note.

    float16 is for GPUs: Lightning would silently compute in bfloat16 on a CPU.
    """
    import torch

    training = config.training
    require_accelerator(training.accelerator)
    on_cpu = training.accelerator == "cpu" or not torch.cuda.is_available()
    if training.precision != "16-mixed" or not on_cpu:
        return config, ()
    note = "--training.precision 16-mixed needs a GPU; this run uses bf16-mixed on the CPU"
    return replace(config, training=replace(training, precision="bf16-mixed")), (note,)


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
    weights = load_initial_weights(model, config)
    fitted = weights is not None and any(name.startswith("pooling.") for name in weights.fit)
    if model.needs_initialisation and not fitted:
        model.initialise(_sample_images(config, dataset, progress))
    return model, weights


def with_input_size(
    config: RunConfig, dataset: PlaceDataset
) -> tuple[RunConfig, tuple[str, ...]]:
    """Return the configuration with the model's input size as numbers, and notes on it.

    Where the options leave it open, the size follows from the typical training image: of the
    shapes of a few evenly spaced ones, that whose input needs bars for the fewest of them.
    The resolved configuration does not depend on the data any more.
    """
    # One-element views with the shape of each image, because only the shape matters.
    images = [
        image[:1, :1, :1].clone().expand(image.shape)
        for image in _readable(config, dataset, _NUM_SHAPES)
    ]
    (height, width), with_bars = typical_input_size(config.model.options, images)
    options = replace(config.model.options, input_height_px=height, input_width_px=width)
    notes: tuple[str, ...] = ()
    if with_bars > _MANY_WITH_BARS * len(images):
        note = (
            f"{with_bars} of {len(images)} training images checked have another aspect "
            f"ratio than the model's input of {height} x {width} px (height x width) and are "
            "letterboxed: bars in their mean colour fill the rest. Set --model.input_height_px "
            "and --model.input_width_px to choose another input"
        )
        notes = (note,)
    return replace(config, model=replace(config.model, options=options)), notes


def restore(run: RunFolder, registry: Registry) -> tuple[RunConfig, EmbeddingModel]:
    """Return a run's configuration and its network with the trained weights.

    Raises:
        DataError: The run has no intact checkpoint, or one of another network.
    """
    config = run_from_toml(run.config, registry)
    checkpoint = run.newest_checkpoint()
    if checkpoint is None:
        raise DataError(f"{run.path} has no checkpoint; train it with 'mlcore train --resume'")
    state = run.load_checkpoint(checkpoint)
    weights = state.get("kept_weights") or {
        name.removeprefix("model."): value
        for name, value in state["state_dict"].items()
        if name.startswith("model.")
    }
    return config, model_with(config, weights, f"{checkpoint}")


def _sample_images(
    config: RunConfig, dataset: PlaceDataset, progress: Progress
) -> Iterator[Tensor]:
    """Yield evenly spaced training images, one per batch."""
    from mlcore.data.images import letterbox

    size = model_input_size(config)
    for image in _readable(config, dataset, _NUM_INITIAL_IMAGES, progress):
        yield letterbox(image, *size)[None]


def _readable(
    config: RunConfig, dataset: PlaceDataset, num: int, progress: Progress = no_progress
) -> Iterator[Tensor]:
    """Yield up to ``num`` evenly spaced reference images of the training split.

    Raises:
        DataError: One cannot be read; with ``skip_unreadable``, none can.
    """
    index = dataset.train.references.index
    if not len(index):
        raise DataError("the training split has no reference image")
    rows = np.linspace(0, len(index) - 1, min(num, len(index))).astype(int)
    failure: DataError | None = None
    num_read = 0
    for done, row in enumerate(rows):
        progress("clustering local features", done, len(rows))
        try:
            image = dataset.load_image(int(index[row]))
        except DataError as error:
            if not config.training.skip_unreadable:
                raise
            failure = error
            continue
        num_read += 1
        yield image
    if failure is not None and not num_read:
        raise DataError(
            f"none of {len(rows)} training images checked can be read; the last error: "
            f"{failure}"
        )


def _build(chosen: Chosen[Any], context: BuildContext) -> Any:
    chosen.factory.require_libraries()
    with attribute_errors(chosen, "could not be built"):
        return chosen.factory.build(chosen.options, context)
