"""Work on one tile of pairs, in Triton: similarities, weights, sums and derivatives.

Functions that kernels are made of; see ``fused.kernels``. Tensors of a tile are ``(rows,
columns)``, those of its rows or columns alone have one axis.
"""

import triton
import triton.language as tl

NOWHERE = tl.constexpr(2**31 - 1)


@triton.jit
def box_gap_squared(rows, columns, i, j, AXES: tl.constexpr):
    """No pair of blocks i and j is closer than the root of this, but for rounding."""
    squared = 0.0
    for axis in tl.static_range(AXES):
        lower, upper = axis * rows.blocks, (AXES + axis) * rows.blocks
        other_lower, other_upper = axis * columns.blocks, (AXES + axis) * columns.blocks
        before = tl.load(columns.box + other_lower + j) - tl.load(rows.box + upper + i)
        after = tl.load(rows.box + lower + i) - tl.load(columns.box + other_upper + j)
        apart = tl.maximum(tl.maximum(before, after), 0.0)
        squared += apart * apart
    return squared


@triton.jit
def is_near(rows, columns, rule, i, j, AXES: tl.constexpr):
    same_region = tl.load(rows.region + i) == tl.load(columns.region + j)
    return same_region & (box_gap_squared(rows, columns, i, j, AXES) < rule.near_squared)


@triton.jit
def decided(exact, rule):
    """Round float64 distances to float32, each on the side of both edges on which it is."""
    support = tl.load(rule.edges)
    start = tl.load(rule.edges + 1)
    d = exact.to(tl.float32)
    d = tl.where(
        exact < support, tl.minimum(d, rule.inside_support), tl.maximum(d, rule.support)
    )
    return tl.where(exact > start, tl.maximum(d, rule.beyond_start), tl.minimum(d, rule.start))


@triton.jit
def distances(s, rows, columns, rule, at_row, at_column, order, counts, AXES: tl.constexpr):
    """Return float32 distances that compare with support and repulsion start as float64 ones.

    ``counts`` says which pairs matter; ``order`` numbers the columns.
    """
    squared = tl.zeros(counts.shape, tl.float32)
    for axis in tl.static_range(AXES):
        row, column = rows.places + axis * rows.size, columns.places + axis * columns.size
        low_row, low_column = row + AXES * rows.size, column + AXES * columns.size
        high = tl.load(row + at_row)[:, None] - tl.load(column + at_column)[None, :]
        low = tl.load(low_row + at_row)[:, None] - tl.load(low_column + at_column)[None, :]
        difference = high + low
        squared += difference * difference
    # Never otherwise, which the compiler cannot know: distances are laid out over the threads
    # as products are, also in the loop, and cost no registers for another layout.
    d = tl.where(s >= 0.0, tl.sqrt(squared), 0.0)
    uncertain = (tl.abs(d - rule.support) < rule.edge) | (tl.abs(d - rule.start) < rule.edge)
    uncertain = tl.max((uncertain & counts).to(tl.int32), 0) > 0
    # Few columns have a pair within a millimetre of an edge: each is decided alone, so that
    # float64 takes registers for one column and not for the whole tile.
    c = tl.min(tl.where(uncertain, order, NOWHERE))
    while c < NOWHERE:
        at = tl.max(tl.where(order == c, at_column, 0))
        total = tl.zeros(at_row.shape, tl.float64)
        for axis in tl.static_range(AXES):
            here = tl.load(rows.exact + axis * rows.size + at_row)
            there = tl.load(columns.exact + axis * columns.size + at)
            total += (here - there) * (here - there)
        d = tl.where((order == c)[None, :], decided(tl.sqrt(total), rule)[:, None], d)
        c = tl.min(tl.where(uncertain & (order > c), order, NOWHERE))
    return d


@triton.jit
def weigh(
    d,
    rows,
    columns,
    rule,
    at_row,
    at_column,
    valid,
    same,
    INFLUENCE: tl.constexpr,
    TURNS: tl.constexpr,
):
    """Return w+, w-, and which pairs attract and repel; a pair with itself attracts not."""
    near = (d < rule.support) & valid
    if TURNS == "none":
        plus = INFLUENCE(d, 0.0, rule.influence)
    else:
        # In units of 2^-64 of a turn, differences wrap by themselves.
        turn = tl.load(rows.turn + at_row)[:, None] - tl.load(columns.turn + at_column)[None, :]
        turn = turn ^ (turn >> 63)
        if TURNS == "limit":
            plus = INFLUENCE(d, 0.0, rule.influence)
        else:
            near = near & (turn < tl.load(rule.turns))
            # Half a turn is 2^31 here.
            h = (turn >> 32).to(tl.float32) * 1.4629180792671596e-9
            plus = INFLUENCE(d, h, rule.influence)
    plus = tl.where(near, plus, 0.0)
    minus = 1.0 - plus
    repels = ((d > rule.start) | ~near) & valid
    if TURNS == "limit" or TURNS == "both":
        excluded = near & (turn > tl.load(rule.turns + 1))
        plus = tl.where(excluded, 0.0, plus)
        minus = tl.where(excluded, 0.0, minus)
        near = near & ~excluded
        repels = repels & ~excluded
    return plus, minus, near & ~same, repels


@triton.jit
def similarities(
    rows, columns, at_row, at_column, D: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr
):
    """Return the products of unit rows and columns, cut off at 0."""
    total = tl.zeros((at_row.shape[0], at_column.shape[0]), tl.float32)
    row, column = at_row.to(tl.int64) * D, at_column.to(tl.int64) * D
    along = tl.arange(0, BK)
    for k in range(0, D, BK):
        if D % BK == 0:
            a = tl.load(rows.unit + row[:, None] + (k + along)[None, :])
            b = tl.load(columns.unit + column[:, None] + (k + along)[None, :])
        else:
            there = (k + along)[None, :] < D
            a = tl.load(rows.unit + row[:, None] + (k + along)[None, :], there, 0.0)
            b = tl.load(columns.unit + column[:, None] + (k + along)[None, :], there, 0.0)
        total = tl.dot(a, tl.trans(b), total, input_precision=PRECISION)
    return tl.maximum(total, 0.0)


@triton.jit
def is_same(rows, columns, order_rows, order_columns, at_row, at_column, FORM: tl.constexpr):
    """Return which pairs are one image twice."""
    if FORM == "square":
        return order_rows[:, None] == order_columns[None, :]
    if FORM == "rows":
        return tl.load(rows.own + at_row)[:, None] == order_columns[None, :]
    return order_rows[:, None] == tl.load(columns.own + at_column)[None, :]


@triton.jit
def exponential(exponent, value, PLAIN: tl.constexpr):
    return value if PLAIN else tl.exp2(exponent)


@triton.jit
def combine(a, b, SUM: tl.constexpr):
    return a + b if SUM else tl.maximum(a, b)


@triton.jit
def visit_near(
    s,
    d,
    rows,
    columns,
    rule,
    at_row,
    at_column,
    valid,
    same,
    STEP: tl.constexpr,
    INFLUENCE: tl.constexpr,
    TURNS: tl.constexpr,
    MINING: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """Return two numbers per row and two per column, as ``tiled.state.Backend`` says."""
    plus, minus, attracts, repels = weigh(
        d, rows, columns, rule, at_row, at_column, valid, same, INFLUENCE, TURNS
    )
    p = plus * s
    n = tl.where(valid, minus * s, 0.0)
    if STEP == "most_attracting":
        p = tl.where(attracts, p, 0.0)
        by_row = tl.max(p, 1)
        by_column = tl.max(p, 0)
        return by_row, tl.zeros_like(by_row), by_column, tl.zeros_like(by_column)
    elif STEP == "mining_extrema":
        # A pair with itself counts here with the weight w+ - 1.
        plus = tl.where(same & valid, plus - 1.0, plus)
        of_row = tl.maximum((tl.load(rows.attraction + at_row)[:, None] - s) * plus, 0.0)
        t = tl.load(columns.attraction + at_column)
        of_column = tl.maximum((t[None, :] - s) * plus, 0.0)
        return tl.max(n, 1), tl.max(of_row, 1), tl.max(n, 0), tl.max(of_column, 0)
    else:
        e = tl.where(attracts, exponential(rule.alpha * (rule.base - p), p, PLAIN), 0.0)
        f = tl.where(repels, exponential(rule.beta * (n - rule.base), n, PLAIN), 0.0)
        if MINING:
            e_row = tl.where(p < tl.load(rows.below + at_row)[:, None], e, 0.0)
            f_row = tl.where(n > tl.load(rows.above + at_row)[:, None], f, 0.0)
            e = tl.where(p < tl.load(columns.below + at_column)[None, :], e, 0.0)
            f = tl.where(n > tl.load(columns.above + at_column)[None, :], f, 0.0)
            return tl.sum(e_row, 1), tl.sum(f_row, 1), tl.sum(e, 0), tl.sum(f, 0)
        return tl.sum(e, 1), tl.sum(f, 1), tl.sum(e, 0), tl.sum(f, 0)


@triton.jit
def visit_far(
    s, rows, columns, rule, at_row, at_column, valid, MINING: tl.constexpr, PLAIN: tl.constexpr
):
    """Return max n and sum of the rows, of the columns, and the largest kept similarity."""
    s = tl.where(valid, s, 0.0)
    f = tl.where(valid, exponential(rule.beta * (s - rule.base), s, PLAIN), 0.0)
    if MINING:
        kept_row = s > tl.load(rows.above + at_row)[:, None]
        kept = s > tl.load(columns.above + at_column)[None, :]
        f_row = tl.where(kept_row, f, 0.0)
        f = tl.where(kept, f, 0.0)
        largest = tl.max(tl.where((kept_row | kept) & valid, s, -1.0))
        return tl.max(s, 1), tl.sum(f_row, 1), tl.max(s, 0), tl.sum(f, 0), largest
    most = tl.max(s, 1)
    return most, tl.sum(f, 1), tl.max(s, 0), tl.sum(f, 0), tl.max(most)


@triton.jit
def kept(value, limits, at, ATTRACTING: tl.constexpr):
    """Return whether mining keeps values of the rows (or columns) ``at``, of either sum."""
    limit = tl.load(limits + at)
    return value < limit if ATTRACTING else value > limit


@triton.jit
def factor_of(
    value,
    of_rows,
    of_columns,
    row_limits,
    column_limits,
    at_row,
    at_column,
    ATTRACTING: tl.constexpr,
    FORM: tl.constexpr,
    MINING: tl.constexpr,
):
    """Return by what a pair is multiplied: the factors of the images whose sums have it."""
    at_row, at_column = at_row[:, None], at_column[None, :]
    factor = tl.zeros(value.shape, tl.float32)
    if FORM != "columns":
        row = tl.load(of_rows + at_row)
        if MINING:
            row = tl.where(kept(value, row_limits, at_row, ATTRACTING), row, 0.0)
        factor += row
    if FORM != "rows":
        column = tl.load(of_columns + at_column)
        if MINING:
            column = tl.where(kept(value, column_limits, at_column, ATTRACTING), column, 0.0)
        factor += column
    return factor


@triton.jit
def near_gradient(
    s,
    d,
    rows,
    columns,
    rule,
    at_row,
    at_column,
    valid,
    same,
    INFLUENCE: tl.constexpr,
    TURNS: tl.constexpr,
    FORM: tl.constexpr,
    MINING: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """Return the derivative by each similarity."""
    plus, minus, attracts, repels = weigh(
        d, rows, columns, rule, at_row, at_column, valid, same, INFLUENCE, TURNS
    )
    p = plus * s
    n = minus * s
    attracting = plus * factor_of(
        p,
        rows.attraction,
        columns.attraction,
        rows.below,
        columns.below,
        at_row,
        at_column,
        True,
        FORM,
        MINING,
    )
    repelling = minus * factor_of(
        n,
        rows.repulsion,
        columns.repulsion,
        rows.above,
        columns.above,
        at_row,
        at_column,
        False,
        FORM,
        MINING,
    )
    if not PLAIN:
        attracting = attracting * tl.exp2(rule.alpha * (rule.base - p))
        repelling = repelling * tl.exp2(rule.beta * (n - rule.base))
    return tl.where(repels, repelling, 0.0) - tl.where(attracts, attracting, 0.0)


@triton.jit
def far_gradient(
    s,
    rows,
    columns,
    rule,
    at_row,
    at_column,
    FORM: tl.constexpr,
    MINING: tl.constexpr,
    PLAIN: tl.constexpr,
):
    """Return the derivative by each similarity where w- is 1 and n is s."""
    factor = factor_of(
        s,
        rows.repulsion,
        columns.repulsion,
        rows.above,
        columns.above,
        at_row,
        at_column,
        False,
        FORM,
        MINING,
    )
    return factor if PLAIN else factor * tl.exp2(rule.beta * (s - rule.base))
