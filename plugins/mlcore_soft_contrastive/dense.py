"""The loss with every pair matrix written out: simple, and the fastest for small batches.

Plain differentiable torch; the reference that the faster implementations are held to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry, PairWeights, pair_weights
from mlcore_soft_contrastive.tiled.products import Products


class RowTerms(NamedTuple):
    """The two terms of each row's loss, ``(B,)`` each: their sum is the row's loss."""

    attraction: Tensor
    repulsion: Tensor


def dense_row_terms(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    config: SoftContrastiveConfig,
) -> RowTerms:
    """Return the loss terms of each row.

    Args:
        embeddings: ``(B, D)``, not normalised; finite.
        references: ``(R, D)``, R > 0; None in the square form.
        geometry: Weights of the pairs.
        config: The formula's options.
    """
    x = normalized(embeddings)
    y = x if references is None else normalized(references)
    weights = pair_weights(geometry)
    attraction, repulsion = weights.attraction.to(x.dtype), weights.repulsion.to(x.dtype)
    # relu, not clamp: its gradient at 0 is 0, so that a zero embedding gets none.
    similarity = torch.relu(exact_product(x, y.T))
    # An image's similarity to itself is constant; detached, it adds no rounding noise.
    similarity = torch.where(weights.same, similarity.detach(), similarity)
    p, n = attraction * similarity, repulsion * similarity
    attracts, repels = weights.attracts, weights.repels
    if config.mining:
        keep_attracting, keep_repelling = mine(
            weights, similarity.detach(), p.detach(), n.detach(), config.epsilon
        )
        attracts, repels = attracts & keep_attracting, repels & keep_repelling
    if config.aggregation == "plain":
        return RowTerms(-(p * attracts).sum(dim=1), (n * repels).sum(dim=1))
    alpha, beta, base = config.alpha, config.beta, config.base
    return RowTerms(
        log_one_plus_sum_exp(alpha * (base - p), attracts) / alpha,
        log_one_plus_sum_exp(beta * (n - base), repels) / beta,
    )


def exact_product(a: Tensor, b: Tensor) -> Tensor:
    """Return ``a @ b``, also differentiated in full precision.

    If backward is called inside autocast, it would round the factors of plain products; and so
    would TF32, wherever torch is set to use it.
    """
    product: Tensor = _ExactProduct.apply(a, b)
    return product


class _ExactProduct(torch.autograd.Function):
    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False), Products().rounding():
            return a @ b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: object) -> None:
        del output
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return exact_product(gradient, b.T), exact_product(a.T, gradient)


def normalized(embeddings: Tensor) -> Tensor:
    """Return ``embeddings / |embeddings|``, in float32 at least; zero rows stay zero."""
    half = embeddings.dtype in (torch.float16, torch.bfloat16)
    values = embeddings.float() if half else embeddings
    # Divided by its largest entry first, no row over- or underflows when squared.
    largest = torch.linalg.vector_norm(values.detach(), ord=torch.inf, dim=1, keepdim=True)
    nonzero = largest > 0
    scaled = values / torch.where(nonzero, largest, 1.0)
    squared = scaled.square().sum(dim=1, keepdim=True)
    return scaled / torch.where(nonzero, squared, 1.0).sqrt()


def mine(
    weights: PairWeights, similarity: Tensor, p: Tensor, n: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return which pairs are hard enough to be kept, for attraction and for repulsion.

    Multi-similarity mining (Wang et al., CVPR 2019) as the paper weights it: an attracting
    pair is kept if it is less similar than the row's most similar repelling pair plus
    epsilon, and the other way round. The extrema include 0, so that a row without pairs
    has them too; in the square form this changes nothing, as p, n >= 0.
    """
    most_repelling = n.amax(dim=1, keepdim=True).clamp_(min=0.0)
    most_attracting = p.amax(dim=1, keepdim=True).clamp_(min=0.0)
    shortfall = (similarity - most_attracting) * weights.attraction.to(similarity.dtype)
    least_attracting = most_attracting + shortfall.amin(dim=1, keepdim=True).clamp_(max=0.0)
    return p < most_repelling + epsilon, n > least_attracting - epsilon


def log_one_plus_sum_exp(exponent: Tensor, included: Tensor) -> Tensor:
    """Return ``log(1 + sum_j exp(exponent_ij))`` over included j, for any exponents.

    Shifted by the largest exponent (or 0), it neither overflows nor, through ``log1p``,
    loses a small sum beside the 1.
    """
    masked = exponent.masked_fill(~included, -torch.inf)
    shift = masked.detach().amax(dim=1).clamp_(min=0.0)
    total = torch.exp(masked - shift[:, None]).sum(dim=1)
    return shift + torch.log1p(total + torch.expm1(-shift))
