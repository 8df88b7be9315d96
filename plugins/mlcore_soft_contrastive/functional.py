"""The soft contrastive loss as a plain function, for people who bring their own loop."""

from __future__ import annotations

from typing import Literal, overload

from numpy.typing import ArrayLike
from torch import Tensor

from mlcore.protocols import InfluenceFunction, LossOutput
from mlcore_soft_contrastive.config import (
    Aggregation,
    Implementation,
    SoftContrastiveConfig,
    TilePrecision,
)
from mlcore_soft_contrastive.dispatch import evaluate, not_compiled
from mlcore_soft_contrastive.influence import Sigmoid
from mlcore_soft_contrastive.inputs import checked_geometry


@overload
def soft_contrastive_loss(
    embeddings: Tensor,
    positions_m: ArrayLike,
    *,
    influence: InfluenceFunction = ...,
    alpha: float = ...,
    beta: float = ...,
    base: float = ...,
    mining: bool = ...,
    epsilon: float = ...,
    aggregation: Aggregation = ...,
    headings_rad: ArrayLike | None = ...,
    heading_limit_rad: float | None = ...,
    references: Tensor | None = ...,
    reference_positions_m: ArrayLike | None = ...,
    reference_headings_rad: ArrayLike | None = ...,
    self_index: ArrayLike | None = ...,
    region: ArrayLike | None = ...,
    reference_region: ArrayLike | None = ...,
    implementation: Implementation = ...,
    save_similarity: bool = ...,
    gradient_filter: float = ...,
    tile_precision: TilePrecision = ...,
    return_stats: Literal[False] = ...,
) -> Tensor: ...


@overload
def soft_contrastive_loss(
    embeddings: Tensor,
    positions_m: ArrayLike,
    *,
    influence: InfluenceFunction = ...,
    alpha: float = ...,
    beta: float = ...,
    base: float = ...,
    mining: bool = ...,
    epsilon: float = ...,
    aggregation: Aggregation = ...,
    headings_rad: ArrayLike | None = ...,
    heading_limit_rad: float | None = ...,
    references: Tensor | None = ...,
    reference_positions_m: ArrayLike | None = ...,
    reference_headings_rad: ArrayLike | None = ...,
    self_index: ArrayLike | None = ...,
    region: ArrayLike | None = ...,
    reference_region: ArrayLike | None = ...,
    implementation: Implementation = ...,
    save_similarity: bool = ...,
    gradient_filter: float = ...,
    tile_precision: TilePrecision = ...,
    return_stats: Literal[True],
) -> LossOutput: ...


@not_compiled
def soft_contrastive_loss(
    embeddings: Tensor,
    positions_m: ArrayLike,
    *,
    influence: InfluenceFunction = Sigmoid(steepness_per_m=0.8, cutoff_m=15.0),  # noqa: B008 - frozen
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 1.0,
    mining: bool = True,
    epsilon: float = 0.1,
    aggregation: Aggregation = "log-sum-exp",
    headings_rad: ArrayLike | None = None,
    heading_limit_rad: float | None = None,
    references: Tensor | None = None,
    reference_positions_m: ArrayLike | None = None,
    reference_headings_rad: ArrayLike | None = None,
    self_index: ArrayLike | None = None,
    region: ArrayLike | None = None,
    reference_region: ArrayLike | None = None,
    implementation: Implementation = "auto",
    save_similarity: bool = False,
    gradient_filter: float = 0.0,
    tile_precision: TilePrecision = "float32",
    return_stats: bool = False,
) -> Tensor | LossOutput:
    """Return the soft contrastive loss of a batch (Thoma et al., NeurIPS 2020).

    With unit embeddings x, similarity ``s_ij = max(0, x_i . x_j)``, geometric distance
    ``d_ij``, attraction ``p_ij = w+(d_ij) s_ij`` and repulsion ``n_ij = w-(d_ij) s_ij``::

        L = mean_i  1/alpha log(1 + sum_{j in P_i} exp(-alpha (p_ij - base)))
                  + 1/beta  log(1 + sum_{j in N_i} exp( beta (n_ij - base)))

    P_i holds the other images closer than ``influence.support_m``; N_i those for which
    the influence function leaves any repulsion. The ``plain`` aggregation is
    ``mean_i sum_N n_ij - sum_P p_ij``. Deviation from the published code: the support is
    explicit instead of left to floating-point overflow.

    Edge cases, all finite with a finite gradient: an empty batch has loss 0; a single
    image has no attracting pair and a loss below 1e-20 with zero gradient; a zero
    embedding has similarity 0 to all and zero gradient; coincident positions attract
    with w+(0); without any near pair the attraction term is exactly 0.

    Args:
        embeddings: ``(B, D)``, float64, float32, or half precision (computed in float32);
            need not be normalised.
        positions_m: ``(B, 2)`` or ``(B, 3)``, metres; float64 for UTM; a tensor on the device
            of the embeddings, an array or a list. Not differentiated.
        influence: Attraction weight by distance.
        alpha: Sharpness of the sum over attracting pairs.
        beta: Sharpness of the sum over repelling pairs; any size, no exponent overflows.
        base: The lambda of the formula, a similarity.
        mining: Whether pairs that are easy already are dropped.
        epsilon: Mining margin, a similarity.
        aggregation: "log-sum-exp" or "plain".
        headings_rad: ``(B,)``, radians.
        heading_limit_rad: With headings: pairs inside the support whose headings differ
            by more are in neither sum.
        references: ``(R, D)`` embeddings to compare with instead of the batch itself (the
            rectangular form). They are differentiated too, unless detached.
        reference_positions_m: ``(R, 2)`` or ``(R, 3)``, metres.
        reference_headings_rad: ``(R,)``, radians.
        self_index: ``(B,)`` int64, the column of ``references`` that is row i itself; -1,
            or no ``self_index``, for none.
        region: ``(B,)`` integer codes: images of different regions are infinitely far apart,
            whatever their positions. None for one region.
        reference_region: ``(R,)``, the same codes; given if and only if ``region`` is.
        implementation: "dense" writes all pair matrices out; "tiled" needs memory for a
            few copies of the embeddings only, and gives no second derivatives; "cupy" is
            "tiled" with CUDA kernels; "fused" computes similarities and the work on them in
            one Triton kernel. "auto" is "dense" below some 256 images, then "cupy" on a GPU
            where CuPy is installed, and else "tiled"; never "fused", which no GPU has been
            measured with. A configuration that compiled code does not cover (float64, an
            influence function without C code, exponents beyond float32) runs as torch
            operations: see the stats. What "fused" does not cover (more than 256 dimensions
            or 64 regions, or C code without a Triton form) runs as "auto" would.
        save_similarity: "tiled" keeps every similarity from pass to pass.
        gradient_filter: "tiled" leaves tiles beyond the support without any similarity of
            this size out of the gradient. With the log-sum-exp of B images and as many
            references, the gradient by a unit embedding is then off by less than
            ``2 exp(beta (gradient_filter - base))``. 0 is exact.
        tile_precision: "cupy" rounds the factors of its matrix products to "tf32" or
            "bfloat16" (sums stay float32): a similarity is off by some 1e-4 or 1e-3, and
            an exponent by ``beta`` times that. The others compute in float32.
        return_stats: Whether to return a :class:`mlcore.LossOutput` with the batch means
            of the two terms and the implementation used.

    Returns:
        Scalar tensor, or loss and stats.

    Raises:
        ConfigError: An option is out of its range, ``influence`` is no influence function,
            or "cupy" or "fused" cannot run here.
        DataError: Embeddings, positions or headings are not finite; names the rows. It is a
            ``ValueError`` as well.
        TypeError: Embeddings are no tensor.
        ValueError: Shapes, dtypes or devices do not match.

    Warns:
        UserWarning: Positions look like degrees, or their dtype is too coarse for them.
    """
    config = SoftContrastiveConfig(
        alpha=alpha,
        beta=beta,
        base=base,
        mining=mining,
        epsilon=epsilon,
        aggregation=aggregation,
        implementation=implementation,
        save_similarity=save_similarity,
        gradient_filter=gradient_filter,
        tile_precision=tile_precision,
    )
    geometry = checked_geometry(
        embeddings,
        positions_m,
        headings_rad,
        references,
        reference_positions_m,
        reference_headings_rad,
        self_index,
        region=region,
        reference_region=reference_region,
        influence=influence,
        heading_limit_rad=heading_limit_rad,
    )
    output = evaluate(embeddings, references, geometry, config)
    return output if return_stats else output.loss
