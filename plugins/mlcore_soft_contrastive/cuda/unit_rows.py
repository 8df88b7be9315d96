"""Embeddings divided by their norms, and the way back for their gradient, by kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore_soft_contrastive.cuda.sides import Side
from mlcore_soft_contrastive.tiled.cupy_launch import Launch
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.walk import SHORTEST_SHARE


class UnitRows:
    """Embeddings divided by their norms, along the curve, and the way back.

    Attributes:
        values: ``(padded, D)`` float32; zero rows stay zero.
        factors: The same for products, by tile.
    """

    def __init__(
        self, embeddings: Tensor, side: Side, tile: int, launch: Launch, products: Products
    ) -> None:
        self._side, self._tile, self._launch = side, tile, launch
        self._dtype, dim = embeddings.dtype, embeddings.shape[1]
        given = embeddings.detach().float().contiguous()
        self.values = given.new_empty(side.padded, dim)
        self._scale = given.new_empty(side.padded, 2)
        self._launch_rows("unit_rows", side.padded, given, side.order, self.values, self._scale)
        self.factors = torch.split(products.factor(self.values), tile)

    def chain(self, by_unit: Tensor) -> Tensor:
        """Return the gradient by the embeddings, in the order of the batch."""
        side = self._side
        out = by_unit.new_empty(side.size, by_unit.shape[1])
        self._launch_rows(
            "chain", side.size, by_unit, self.values, self._scale, side.order, out
        )
        return out.to(self._dtype)

    def shortest(self, by_unit: Tensor) -> Tensor:
        """Return, by tile, the least length across the unit rows of their gradients.

        Never less than ``SHORTEST_SHARE`` of the root mean square over all rows.
        """
        size, tile = self._side.size, self._tile
        tiles = -(-size // tile)
        lengths = by_unit.new_full((tiles * tile,), torch.inf)
        self._launch_rows("tangent_lengths", size, by_unit, self.values, lengths)
        usual = lengths[:size].double().square().mean().sqrt().float()
        return torch.maximum(lengths.view(tiles, tile).amin(dim=1), SHORTEST_SHARE * usual)

    def _launch_rows(self, name: str, rows: int, *tensors: Tensor) -> None:
        """Run a kernel that takes a warp for each row."""
        sizes = self._side.size, self.values.shape[1]
        self._launch(name, (-(-rows // 8), 1), (32, 8), *tensors, *sizes)
