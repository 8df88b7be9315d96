"""A trained network as one graph: letterbox, network, whitening."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mlcore.deployment.letterbox import Letterbox
from mlcore.models.embedding import EmbeddingModel
from mlcore.retrieval.whitening import Whitening


class EmbeddingGraph(nn.Module):
    """Images as a camera gives them to the embeddings that evaluation searched with.

    Args:
        network: The trained network.
        input_size: Height and width in pixels that it takes.
        whitening: What evaluation applied; None for none.
        channels_last: Whether images are ``(B, H, W, 3)``, as cameras and OpenCV give them,
            instead of ``(B, 3, H, W)``.
    """

    mean: Tensor
    projection: Tensor

    def __init__(
        self,
        network: EmbeddingModel,
        input_size: tuple[int, int],
        whitening: Whitening | None,
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.letterbox = Letterbox(*input_size)
        self.network = network
        self.channels_last = channels_last
        self.is_whitened = whitening is not None
        if whitening is not None:
            projection = whitening.components.T / whitening.deviation
            self.register_buffer("mean", torch.from_numpy(whitening.mean))
            self.register_buffer("projection", torch.from_numpy(projection))
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Embed RGB images, uint8 ``(B, 3, H, W)``; returns float32 ``(B, D)``."""
        if self.channels_last:
            image = image.permute(0, 3, 1, 2)
        embedding: Tensor = self.network(self.letterbox(image)).float()
        if self.is_whitened:
            # In float64, as in evaluation: directions of little variance are blown up.
            embedding = ((embedding.double() - self.mean) @ self.projection).float()
        return embedding

    def example(self) -> tuple[Tensor, dict[int, Any]]:
        """Return images to trace the graph with, and the axes whose sizes stay dynamic."""
        batch, height, width = (torch.export.Dim(name) for name in ("B", "H", "W"))
        if self.channels_last:
            return torch.zeros((2, 70, 90, 3), dtype=torch.uint8), {
                0: batch,
                1: height,
                2: width,
            }
        return torch.zeros((2, 3, 70, 90), dtype=torch.uint8), {0: batch, 2: height, 3: width}
