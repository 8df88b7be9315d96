"""What the kernels read: tuples whose fields kernels name, on torch's side and Triton's."""

from __future__ import annotations

from typing import Any, NamedTuple


class SideArguments(NamedTuple):
    """The rows, or the columns, along the curve; ``rows.box`` and so on in the kernels.

    Of an ahead-of-time compilation the fields are Triton's names of their types.

    Attributes:
        unit: ``(size, D)`` float32 or bfloat16, factors of the products.
        places: ``(2 axes, size)`` float32, metres from the origin, then the remainders.
        exact: ``(axes, size)`` float64, metres as given.
        turn: ``(size,)`` int64, headings in units of 2^-64 of a turn.
        own: ``(size,)`` int32, of the rows: the column that is the row itself, or negative.
        below: ``(size,)`` float32, attracting pairs with p below this are kept.
        above: ``(size,)`` float32, repelling pairs with n above this are kept.
        attraction: ``(size,)`` float32, t in mining, the factor in backward.
        repulsion: ``(size,)`` float32, the factor in backward.
        first: ``(blocks,)`` int32, the first row of each block.
        stop: ``(blocks,)`` int32, the row after its last.
        box: ``(2 axes, blocks)`` float32, lower and upper corners, metres from the origin.
        region: ``(blocks,)`` int32.
        limit: ``(blocks,)`` float32, in backward: far blocks with no larger similarity change
            no digit of the gradient.
        size: Number of rows.
        blocks: Number of blocks.
    """

    unit: Any
    places: Any
    exact: Any
    turn: Any
    own: Any
    below: Any
    above: Any
    attraction: Any
    repulsion: Any
    first: Any
    stop: Any
    box: Any
    region: Any
    limit: Any
    size: Any
    blocks: Any


class RuleArguments(NamedTuple):
    """The formula's numbers.

    Attributes:
        influence: Parameters of the influence function, float32.
        edges: ``(2,)`` float64, support and repulsion start, metres.
        turns: ``(2,)`` int64, in units of 2^-64 of a turn: the influence function's support,
            and the heading limit.
        near_squared: Square of the gap from which on a block is far.
        support: Edge in float32; distances on either side of it stay there.
        inside_support: The largest distance below ``support``.
        start: Likewise for the repulsion start.
        beyond_start: The smallest distance above ``start``.
        edge: Within this of an edge, float64 decides.
        alpha: Times log2(e).
        beta: Times log2(e).
        base: A similarity.
        filter: ``gradient_filter``.
    """

    influence: Any
    edges: Any
    turns: Any
    near_squared: Any
    support: Any
    inside_support: Any
    start: Any
    beyond_start: Any
    edge: Any
    alpha: Any
    beta: Any
    base: Any
    filter: Any


SIDE_TYPES = SideArguments(
    unit="*fp32",
    places="*fp32",
    exact="*fp64",
    turn="*i64",
    own="*i32",
    below="*fp32",
    above="*fp32",
    attraction="*fp32",
    repulsion="*fp32",
    first="*i32",
    stop="*i32",
    box="*fp32",
    region="*i32",
    limit="*fp32",
    size="i32",
    blocks="i32",
)
RULE_TYPES = RuleArguments("*fp32", "*fp64", "*i64", *["fp32"] * 10)
