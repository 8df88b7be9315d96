"""RINCE: InfoNCE over bands of distance, ranked by a temperature each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from mlcore_graded.rows import RowBlock, RowwiseLoss


class RinceLoss(RowwiseLoss):
    """Each image of a band of distance against all images beyond the band.

    Mean over anchors i of the sum over bands r, half open [lower, upper), of the mean over
    images p of the band of -log [e^{s_ip / t_r} / (e^{s_ip / t_r} + sum_n e^{s_in / t_r})], n
    at least as far as the band's upper edge: Hoffmann et al., Ranking Info Noise Contrastive
    Estimation, AAAI 2022, the "out" variant. A band counts for an anchor if it has both
    kinds of images; anchors without such a band are left out.

    Time O(B^2) per band.

    Args:
        bands_m: Upper edges (metres) of the bands, rising; the first begins at 0.
        temperatures: t_r of each band, rising: the farther, the softer.
    """

    def __init__(self, *, bands_m: Sequence[float], temperatures: Sequence[float]) -> None:
        super().__init__()
        self.bands_m = tuple(bands_m)
        self.temperatures = tuple(temperatures)

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return 1 for each anchor with a band that counts."""
        counted = [_counts(positive, beyond) for positive, beyond in self._bands(rows)]
        return torch.stack(counted).any(dim=0)

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return each anchor's sum over its bands."""
        total = similarity.new_zeros(len(similarity))
        below = similarity - similarity.detach().amax(dim=1, keepdim=True)
        for t, (positive, beyond) in zip(self.temperatures, self._bands(rows), strict=True):
            # Exponents are at least -200, as temperatures are at least 0.01: none underflows.
            logits = below / t
            e = logits.exp()
            negatives = (e * beyond).sum(dim=1)
            anchor, p = (positive & _counts(positive, beyond)[:, None]).nonzero(as_tuple=True)
            terms = (e[anchor, p] + negatives[anchor]).log() - logits[anchor, p]
            total = total.index_add(0, anchor, terms / positive.sum(dim=1)[anchor])
        return total

    def _bands(self, rows: RowBlock) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield for each band what lies in it and what lies beyond it, ``(b, n)`` bool."""
        for lower, upper in zip((0.0, *self.bands_m), self.bands_m, strict=False):
            beyond = rows.distance_m >= upper
            yield (rows.distance_m >= lower) & ~beyond, beyond


def _counts(positive: Tensor, beyond: Tensor) -> Tensor:
    return positive.any(dim=1) & beyond.any(dim=1)
