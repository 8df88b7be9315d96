"""Options of the miners and losses; no torch here, so that listing them stays instant."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GeometricPairsOptions:
    """Options of the miner ``geometric-pairs``.

    Attributes:
        near_radius_m: Pairs within this distance (metres) are positive; None takes the
            sampler's.
        far_radius_m: Pairs beyond this distance (metres) are negative; None takes the
            sampler's.
        heading_limit_deg: Largest heading difference (degrees) of a positive pair, where
            headings are known; None takes the sampler's, 180 sets no limit.
    """

    near_radius_m: float | None = None
    far_radius_m: float | None = None
    heading_limit_deg: float | None = None


@dataclass(frozen=True, kw_only=True)
class GeometricTripletsOptions:
    """Options of the miner ``geometric-triplets``.

    Attributes:
        near_radius_m: Images within this distance (metres) of the anchor are positive; None
            takes the sampler's.
        far_radius_m: Images beyond this distance (metres) of the anchor are negative; None
            takes the sampler's.
        heading_limit_deg: Largest heading difference (degrees) of anchor and positive,
            where headings are known; None takes the sampler's, 180 sets no limit.
        max_triplets_per_anchor: Draw this many of an anchor's triplets at random, always
            the same for the same seed and images; None takes them all, which is up to the
            cube of the batch size.
    """

    near_radius_m: float | None = None
    far_radius_m: float | None = None
    heading_limit_deg: float | None = None
    max_triplets_per_anchor: int | None = None
