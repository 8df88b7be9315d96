"""Pairs and triplets by geometry alone: what is near is positive, what is far negative."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore.geometry import NearFar
from mlcore.protocols import Batch, Pairs, Triplets


class GeometricPairMiner:
    """All near pairs as positives and all far pairs as negatives, in both orders.

    A pair takes 16 bytes.

    Args:
        relation: What is near and what is far.
    """

    def __init__(self, relation: NearFar) -> None:
        self._relation = relation

    def __call__(self, embeddings: Tensor, batch: Batch) -> Pairs:
        """Return the pairs, ordered by anchor; embeddings are ignored."""
        near, far = self._relation(batch)
        return Pairs(*torch.where(near), *torch.where(far))


class GeometricTripletMiner:
    """Every anchor with every pair of a near and a far image, or a sample of them.

    A triplet takes 24 bytes, and about 80 while it is made; no ``(B, B, B)`` tensor is
    made. Four tuples of 25 images have some 10^5 triplets, a thousand images 10^7.

    Args:
        relation: What is near and what is far.
        max_triplets_per_anchor: Size of the sample of one anchor's triplets, drawn without
            repetition; None takes all.
        seed: Seed of the sample, which is a function of it and of the batch's images.
    """

    def __init__(
        self, relation: NearFar, *, max_triplets_per_anchor: int | None = None, seed: int = 0
    ) -> None:
        self._relation = relation
        self._max = max_triplets_per_anchor
        self._seed = seed

    def __call__(self, embeddings: Tensor, batch: Batch) -> Triplets:
        """Return the triplets, ordered by anchor; embeddings are ignored.

        Triplet ``c`` of an anchor with ``N`` negatives joins its positive ``c // N`` and its
        negative ``c % N``.
        """
        near, far = self._relation(batch)
        num_positives, num_negatives = near.sum(dim=1), far.sum(dim=1)
        num_triplets = num_positives * num_negatives
        anchors, codes = self._anchors_and_codes(num_triplets, batch)
        step = num_negatives[anchors]
        first_positive = num_positives.cumsum(dim=0) - num_positives
        first_negative = num_negatives.cumsum(dim=0) - num_negatives
        positives = near.nonzero()[:, 1][first_positive[anchors] + codes // step]
        negatives = far.nonzero()[:, 1][first_negative[anchors] + codes % step]
        return Triplets(anchors, positives, negatives)

    def _anchors_and_codes(self, num_triplets: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return each triplet's anchor and its number among the anchor's triplets."""
        device = num_triplets.device
        rows = torch.arange(len(num_triplets), device=device)
        if self._max is None:
            anchors = torch.repeat_interleave(rows, num_triplets)
            first = num_triplets.cumsum(dim=0) - num_triplets
            return anchors, torch.arange(len(anchors), device=device) - first[anchors]
        anchors = torch.repeat_interleave(rows, num_triplets.clamp(max=self._max))
        generator = torch.Generator().manual_seed(self._seed_of(batch))
        codes = [
            torch.randperm(total, generator=generator)[: self._max]
            for total in num_triplets.tolist()
        ]
        return anchors, torch.cat(codes).to(device)

    def _seed_of(self, batch: Batch) -> int:
        """Return a seed for the batch, so that the miner itself has no state."""
        return (self._seed * 1_000_003 + int(batch.index.sum())) % 2**63
