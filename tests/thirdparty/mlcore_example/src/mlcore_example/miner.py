"""A miner of triplets."""

from __future__ import annotations

from torch import Tensor

from mlcore import Batch, Triplets
from mlcore.geometry import NearFar


class HardestFar:
    """Every near pair with the far image that is most like its anchor.

    Args:
        relation: Tells near pairs from far ones.
    """

    def __init__(self, relation: NearFar) -> None:
        self._relation = relation

    def __call__(self, embeddings: Tensor, batch: Batch) -> Triplets:
        """Return the triplets of a batch with ``embeddings`` (B, D)."""
        near, far = self._relation(batch)
        similarity = (embeddings @ embeddings.T).masked_fill(~far, float("-inf"))
        hardest = similarity.argmax(dim=1)
        anchors, positives = (near & far.any(dim=1, keepdim=True)).nonzero().T
        return Triplets(anchors, positives, hardest[anchors])
