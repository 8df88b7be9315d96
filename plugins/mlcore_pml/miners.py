"""Miners: which of an anchor's near and far images a loss gets to see."""

from __future__ import annotations

from dataclasses import dataclass

from mlcore import Pairs, Triplets
from mlcore_pml.factories import GeometryOptions, miner


@dataclass(frozen=True, kw_only=True)
class MultiSimilarityMinerOptions(GeometryOptions):
    """Options of ``pml-multi-similarity-miner``.

    Attributes:
        epsilon: Keep positives less similar than the most similar negative plus this
            (cosine similarity), and negatives more similar than the least similar positive
            minus this.
    """

    epsilon: float = 0.1


@dataclass(frozen=True, kw_only=True)
class BatchHardOptions(GeometryOptions):
    """Options of ``pml-batch-hard``."""


MINERS = (
    miner(
        "pml-multi-similarity-miner",
        "MultiSimilarityMiner",
        MultiSimilarityMinerOptions,
        summary="positives and negatives that are hard compared with each other",
        source="Wang et al., Multi-Similarity Loss, CVPR 2019",
        produces=Pairs,
    ),
    miner(
        "pml-batch-hard",
        "BatchHardMiner",
        BatchHardOptions,
        summary="each anchor with its farthest near and its nearest far image",
        source="Hermans et al., In Defense of the Triplet Loss, 2017",
        produces=Triplets,
    ),
)
