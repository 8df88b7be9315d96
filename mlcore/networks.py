"""The network of a run: its parts, and the weights that it starts from or was trained to.

Importing this imports no torch, as :mod:`mlcore.experiment` must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.errors import ConfigError, DataError, MlcoreError
from mlcore.factories import BuildContext, Weights
from mlcore.files import user_cache_dir
from mlcore.models.config import ModelConfig, input_size
from mlcore.options import Chosen, RunConfig
from mlcore.options.config import attribute_errors, model_input_size
from mlcore.protocols import FeatureShape, Loss
from mlcore.run_folder import RunFolder, require_same_shapes
from mlcore.seeding import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.models.embedding import EmbeddingModel
    from mlcore.models.weights import LoadedWeights


def build_model(config: RunConfig) -> EmbeddingModel:
    """Build the network with the random weights that the run's seed gives it.

    Raises:
        ConfigError: Its parts do not fit together.
    """
    import torch

    seed = derive_seed(config.seed, "model")
    torch.manual_seed(seed)
    height, width = model_input_size(config)
    size = None if height is None or width is None else (height, width)
    context = BuildContext(seed=seed, input_size_px=size)
    if config.backbone is not None and config.pooling is not None:
        context = replace(context, backbone=_built(config.backbone, context))
        context = replace(context, features=_features(config, context))
        context = replace(context, pooling=_built(config.pooling, context))
    model: EmbeddingModel = _built(config.model, context)
    model.normalize = config.loss.factory.normalize
    return model


def model_with(config: RunConfig, weights: Mapping[str, Tensor], what: str) -> EmbeddingModel:
    """Return the network of a configuration with given weights, in evaluation mode.

    Args:
        config: Decides the network.
        weights: Its state dictionary; the network keeps these tensors.
        what: Where they come from, for messages.

    Raises:
        DataError: They are those of another network.
    """
    from mlcore.models.zeros import ZeroParameters, assign

    config = without_weights(config)
    try:
        with ZeroParameters():
            model = build_model(config)
    except MlcoreError:  # it computes with what it draws, or fails in any case
        model = build_model(config)
    require_same_shapes(model.state_dict(), weights, what)
    assign(model, weights)
    return model.eval()


def typical_input_size(
    options: ModelConfig, images: Sequence[Tensor]
) -> tuple[tuple[int, int], int]:
    """Return the input size (height, width) that the most images fit, and how many do not.

    A stray image too small or too narrow for any input has no say in it, unless all are.

    Args:
        options: Of the model.
        images: ``(3, H, W)``; only their shapes matter.

    Raises:
        ConfigError: No image gives an input that is large enough.
    """
    from mlcore.data.images import fits

    sizes: list[tuple[int, int]] = []
    too_small = None
    for height, width in dict.fromkeys((image.shape[1], image.shape[2]) for image in images):
        try:
            sizes.append(input_size(options, (height, width)))
        except ConfigError as error:
            too_small = too_small or error
    if too_small is not None and not sizes:
        raise too_small
    with_bars = {size: sum(not fits(image, *size) for image in images) for size in sizes}
    size = min(with_bars, key=with_bars.__getitem__)  # the first of equals
    return size, with_bars[size]


def load_initial_weights(model: EmbeddingModel, config: RunConfig) -> LoadedWeights | None:
    """Load the weights that ``model.weights`` names; None where it names none.

    Raises:
        DataError: They cannot be had, or are those of another network.
        ConfigError: There are none of that name.
    """
    source = getattr(config.model.options, "weights", "none")
    if source == "none":
        return None

    from mlcore.models.weights import load_weights, locate

    offered: Sequence[Weights] = ()
    name = config.model.name
    if config.backbone is not None:
        offered = config.backbone.factory.weights(config.backbone.options)
        name = _described(config.backbone)
    path = Path(source)
    if path.is_dir():
        path = _newest_checkpoint(path)
    else:
        path = locate(source, offered, user_cache_dir(), name)
    return load_weights(model, path, name)


def _newest_checkpoint(folder: Path) -> Path:
    try:
        checkpoint = RunFolder.open(folder).newest_checkpoint()
    except DataError as error:
        raise DataError(
            f"--model.weights {folder} is neither a file of weights nor the folder of a "
            f"trained run: {error}"
        ) from error
    if checkpoint is None:
        raise DataError(f"{folder} has no checkpoint to start from (--model.weights)")
    return checkpoint


def _described(chosen: Chosen[Any]) -> str:
    """Return a component's name and what of its options differs from the defaults."""
    usual = chosen.factory.config()
    changed = [
        f"{one.name} {value}"
        for one in fields(usual)
        if (value := getattr(chosen.options, one.name)) != getattr(usual, one.name)
    ]
    return f"{chosen.name} ({', '.join(changed)})" if changed else chosen.name


def require_trainable(config: RunConfig, model: EmbeddingModel, loss: Loss) -> None:
    """Raise ConfigError if there is nothing that training could change."""
    if not config.model.factory.trainable:
        raise ConfigError(
            f"model {config.model.name!r} has nothing to train; it is a row of every run's "
            "table anyway (--evaluation.baselines), so choose another --model"
        )
    own = loss.parameters() if hasattr(loss, "parameters") else ()
    if not any(parameter.requires_grad for parameter in (*model.parameters(), *own)):
        raise ConfigError(
            "--model.trainable_blocks none leaves nothing to train: pooling, projection and "
            "loss have no parameters; give --model.embedding_dim, another --pooling, or train "
            "the last blocks"
        )


def without_weights(config: RunConfig) -> RunConfig:
    """Return the configuration with random weights, where a checkpoint has them all."""
    if not hasattr(config.model.options, "weights"):
        return config
    options = replace(config.model.options, weights="none")
    return replace(config, model=replace(config.model, options=options))


def _built(chosen: Chosen[Any], context: BuildContext) -> Any:
    chosen.factory.require_libraries()
    with attribute_errors(chosen, "could not be built"):
        return chosen.factory.build(chosen.options, context)


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
    with attribute_errors(config.backbone, "could not embed an image of the input's size"):
        shape = context.backbone.feature_shape(size)
    if "token" in needs and not shape.has_token:
        raise ConfigError(
            f"pooling {config.pooling.name!r} needs a class token, and backbone "
            f"{config.backbone.name!r} has none; choose another --pooling or a transformer"
        )
    return shape
