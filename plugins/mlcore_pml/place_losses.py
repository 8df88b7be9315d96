"""Losses with trained weights for each place, that is each cell of the place grid."""

from __future__ import annotations

from dataclasses import dataclass

from mlcore_pml.factories import place_loss


@dataclass(frozen=True, kw_only=True)
class ProxyAnchorOptions:
    """Options of ``pml-proxy-anchor``.

    Attributes:
        margin: Cosine similarity to its own proxy should exceed this, to others stay below
            its negative.
        alpha: Scale of the similarities.
    """

    margin: float = 0.1
    alpha: float = 32.0


LOSSES = (
    place_loss(
        "pml-proxy-anchor",
        "ProxyAnchorLoss",
        ProxyAnchorOptions,
        summary="one trained proxy a place attracts its images and repels the others",
        source="Kim et al., Proxy Anchor Loss, CVPR 2020",
    ),
)
