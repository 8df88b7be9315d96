"""Judges the network of a run beside what it has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import torch

from mlcore.embedding import Embedder
from mlcore.evaluation import evaluate_model
from mlcore.experiment import model_input_size
from mlcore.factories import BuildContext
from mlcore.models.catalogue import MODELS
from mlcore.protocols import PlaceDataset, Progress, no_progress
from mlcore.results import Evaluation

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.options import RunConfig

PIXELS = "pixels"


def with_baselines(
    trained: EmbeddingModel, untrained: EmbeddingModel
) -> dict[str, EmbeddingModel]:
    """Return the rows of a run's table, by name: untrained, pixels, trained."""
    factory = next(factory for factory in MODELS if factory.name == PIXELS)
    pixels: EmbeddingModel = factory.build(factory.config(), BuildContext())
    return {"untrained": untrained, PIXELS: pixels, "trained": trained}


def judge(
    models: Mapping[str, EmbeddingModel],
    dataset: PlaceDataset,
    config: RunConfig,
    *,
    split: Literal["test", "validation"] = "test",
    progress: Progress = no_progress,
) -> list[Evaluation]:
    """Evaluate each model on a split by the configuration's protocol.

    Raises:
        DataError: The split has no queries, or an image cannot be read.
    """
    return [
        evaluate_model(
            embedder_of(model, config, progress),
            dataset,
            getattr(dataset, split),
            config.evaluation,
            name=name,
            split_name=split,
        )
        for name, model in models.items()
    ]


def embedder_of(
    model: EmbeddingModel, config: RunConfig, progress: Progress = no_progress
) -> Embedder:
    """Return the model as what embeds images, the way a configuration has it."""
    options = config.training
    return Embedder(
        model=model,
        input_size=model_input_size(config),
        batch_size=config.evaluation.batch_size,
        device=device_of(options.accelerator),
        num_workers=options.num_workers,
        skip_unreadable=options.skip_unreadable,
        progress=progress,
    )


def device_of(accelerator: str) -> torch.device:
    """Return the device that Lightning's accelerator name stands for."""
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")
