"""How far the embeddings of an exported network are from those of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from mlcore.deployment.images import ImageList
from mlcore.deployment.model_folder import DeployedModel
from mlcore.errors import ConfigError

TOLERANCE = 1e-4
"""Largest difference between two embeddings of an image, relative to their length."""

Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Embeds a batch of images of one size, as an exported file does."""

_SIZES = ((480, 640), (640, 480), (75, 100), (64, 64), (333, 517), (1080, 1920), (50, 300))


def made_images() -> list[Tensor]:
    """Return images of several sizes, larger and smaller than any input: shapes and noise."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for height, width in _SIZES:
        coarse = torch.rand((1, 3, 6, 8), generator=generator) * 200
        smooth = interpolate(coarse, (height, width), mode="bilinear")[0]
        noise = torch.rand((3, height, width), generator=generator) * 55
        images.append((smooth + noise).to(torch.uint8))
    return images


def measure_parity(
    run: Runner, model: DeployedModel, images: Sequence[Tensor], *, channels_last: bool
) -> float:
    """Return the largest relative difference between exported embeddings and the run's.

    Each image is embedded alone and in a batch of two.

    Args:
        run: The exported file.
        model: What it was exported from.
        images: uint8 ``(3, H, W)``, of any sizes.
        channels_last: Whether the file takes images ``(B, H, W, 3)``.

    Raises:
        ConfigError: The file cannot embed a batch.
    """
    embedder = replace(model.embedder(), device="cpu", num_workers=0)
    found = embedder(ImageList(images), np.arange(len(images)))
    worst = 0.0
    for image, expected in zip(images, model.whiten(found.embeddings), strict=True):
        pixels = image.permute(1, 2, 0) if channels_last else image
        batch = pixels[None].contiguous().numpy()
        length = max(float(np.linalg.norm(expected)), 1e-12)
        actual = np.concatenate([_run(run, batch), _run(run, batch.repeat(2, axis=0))])
        difference = np.linalg.norm(actual.astype(np.float64) - expected, axis=1)
        worst = max(worst, float(difference.max()) / length)
    return worst


def _run(run: Runner, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Embed a batch, and say which one if the exported file cannot."""
    try:
        return run(batch)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"the exported network cannot embed a batch of shape {batch.shape}: {reason}; a "
            "size that must vary is fixed in it, as where the network takes len() of a tensor"
        ) from error
