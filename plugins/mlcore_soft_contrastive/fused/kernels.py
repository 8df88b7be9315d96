"""Kernels in Triton: similarities and their elementwise work, without leaving the chip.

A *block* is up to :data:`BLOCK` consecutive images along the curve. Kernels decide from the
bounding boxes of two blocks whether their pairs are near (may attract) or far; a launch visits
one kind. No atomics: a program adds up in the order of its columns and writes to its
own place, so that every run gives the same bits.

Compile with ``enable_fp_fusion=False``: a squared distance in float64 must be rounded as it is
everywhere else, so that a tie at the support is a tie here too.
"""

import triton
import triton.language as tl

from mlcore_soft_contrastive.fused.pairs import (
    combine,
    distances,
    far_gradient,
    is_near,
    is_same,
    near_gradient,
    similarities,
    visit_far,
    visit_near,
)

BLOCK = tl.constexpr(128)


@triton.jit
def reduce_strip(
    rows, columns, rule, by_row, by_column, largest, first, first_row, num_rows,
    CHUNK: tl.constexpr, STEP: tl.constexpr, FORM: tl.constexpr, INFLUENCE: tl.constexpr,
    AXES: tl.constexpr, TURNS: tl.constexpr, MINING: tl.constexpr, PLAIN: tl.constexpr,
    PRECISION: tl.constexpr, D: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Visit near blocks ("far": far blocks) of a block of rows and a chunk of columns.

    Args:
        rows, columns: ``kernel_arguments.SideArguments``.
        rule: ``kernel_arguments.RuleArguments``.
        by_row: ``(chunks, 2, num_rows)``, where the numbers of the strip's rows go.
        by_column: ``(blocks of the strip, 2, columns)``, zeros; in the square form, where those
            of the columns of blocks above the diagonal go.
        largest: ``(blocks of rows, blocks of columns)``; "far" writes the largest similarity
            of a kept pair of each far block, -1 for none.
        first: First block of the strip.
        first_row: Its first row.
        num_rows: Rows of the strip.
    """
    SUM: tl.constexpr = STEP == "sums"
    block, chunk = tl.program_id(0), tl.program_id(1)
    i = first + block
    order_rows = tl.load(rows.first + i) + tl.arange(0, BLOCK)
    stop = tl.load(rows.stop + i)
    at_row = tl.minimum(order_rows, stop - 1)
    one, two = tl.zeros((BLOCK,), tl.float32), tl.zeros((BLOCK,), tl.float32)
    begin = chunk * CHUNK
    if FORM == "square":
        begin = tl.maximum(begin, i)
    for j in range(begin, tl.minimum((chunk + 1) * CHUNK, columns.blocks)):
        if is_near(rows, columns, rule, i, j, AXES) == (STEP != "far"):
            most = -1.0
            stop_column = tl.load(columns.stop + j)
            for left in range(tl.load(columns.first + j), stop_column, BN):
                order_columns = left + tl.arange(0, BN)
                there = order_columns < stop_column
                at_column = tl.minimum(order_columns, stop_column - 1)
                valid = (order_rows < stop)[:, None] & there[None, :]
                if STEP == "far":
                    s = similarities(rows, columns, at_row, at_column, D, BK, PRECISION)
                    r1, r2, c1, c2, largest_here = visit_far(
                        s, rows, columns, rule, at_row, at_column, valid, MINING, PLAIN
                    )
                    most = tl.maximum(most, largest_here)
                    one = tl.maximum(one, r1)
                    two += r2
                else:
                    same = is_same(
                        rows, columns, order_rows, order_columns, at_row, at_column, FORM
                    )
                    counts = valid & ~same
                    s = similarities(rows, columns, at_row, at_column, D, BK, PRECISION)
                    d = distances(
                        s, rows, columns, rule, at_row, at_column, order_columns, counts, AXES
                    )
                    r1, r2, c1, c2 = visit_near(
                        s, d, rows, columns, rule, at_row, at_column, valid, same,
                        STEP, INFLUENCE, TURNS, MINING, PLAIN,
                    )  # fmt: skip
                    one = combine(one, r1, SUM)
                    two = combine(two, r2, SUM)
                if FORM == "square":
                    if j > i:
                        place = by_column + block.to(tl.int64) * 2 * columns.size
                        tl.store(place + order_columns, c1, there)
                        tl.store(place + columns.size + order_columns, c2, there)
            if STEP == "far":
                tl.store(largest + i.to(tl.int64) * columns.blocks + j, most)
    place = by_row + chunk.to(tl.int64) * 2 * num_rows + order_rows - first_row
    tl.store(place, one, order_rows < stop)
    tl.store(place + num_rows, two, order_rows < stop)


@triton.jit
def far_matters(rows, columns, rule, largest, i, j, wanted, FORM: tl.constexpr):
    """Return whether a far block changes a digit of the gradient."""
    if FORM == "square":
        at = tl.minimum(i, j).to(tl.int64) * columns.blocks + tl.maximum(i, j)
    elif FORM == "rows":
        at = i.to(tl.int64) * columns.blocks + j
    else:
        at = (i.to(tl.int64) - i + j) * rows.blocks + i
    limit = tl.minimum(tl.load(rows.limit + i), tl.load(columns.limit + j))
    most = tl.load(largest + at, wanted, -1.0)
    return (most > limit) & (most >= rule.filter)


@triton.jit
def gradient_strip(
    rows, columns, rule, largest, out, first, first_row, num_rows,
    SPLITS: tl.constexpr, FAR: tl.constexpr, FORM: tl.constexpr, INFLUENCE: tl.constexpr,
    AXES: tl.constexpr, TURNS: tl.constexpr, MINING: tl.constexpr, PLAIN: tl.constexpr,
    PRECISION: tl.constexpr, D: tl.constexpr, WIDTH: tl.constexpr, BM: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Add the gradient by a few rows over every SPLITS-th block of columns.

    Args:
        rows, columns, rule: As of :func:`reduce_strip`. With FORM "columns" the rows are the
            references, and the columns the images whose loss it is.
        largest: What "far" of :func:`reduce_strip` wrote.
        out: ``(SPLITS, num_rows, D)``.
        first, first_row, num_rows: The strip.
        WIDTH: D, rounded up to a power of two.
        BM, BN: Rows and columns of a tile; divide BLOCK.
    """
    i = first + tl.program_id(0) // (BLOCK // BM)
    split = tl.program_id(1)
    part = tl.program_id(0) % (BLOCK // BM)
    order_rows = tl.load(rows.first + i) + part * BM + tl.arange(0, BM)
    stop = tl.load(rows.stop + i)
    at_row = tl.minimum(order_rows, stop - 1)
    along = tl.arange(0, WIDTH)
    there = along[None, :] < D
    # In three parts, rows kept for all columns would not fit in the registers.
    KEPT: tl.constexpr = PRECISION != "tf32x3"
    if KEPT:
        a = tl.load(rows.unit + at_row.to(tl.int64)[:, None] * D + along[None, :], there, 0.0)
    total = tl.zeros((BM, WIDTH), tl.float32)
    for j in range(split, columns.blocks, SPLITS):
        wanted = is_near(rows, columns, rule, i, j, AXES) != FAR
        if FAR:
            wanted = wanted & far_matters(rows, columns, rule, largest, i, j, wanted, FORM)
        if wanted:
            stop_column = tl.load(columns.stop + j)
            for begin in range(tl.load(columns.first + j), stop_column, BN):
                order_columns = begin + tl.arange(0, BN)
                at_column = tl.minimum(order_columns, stop_column - 1)
                valid = (order_rows < stop)[:, None] & (order_columns < stop_column)[None, :]
                b_at = columns.unit + at_column.to(tl.int64)[:, None] * D + along[None, :]
                if KEPT:
                    b = tl.load(b_at, there, 0.0)
                    s = tl.maximum(tl.dot(a, tl.trans(b), input_precision=PRECISION), 0.0)
                else:
                    s = similarities(rows, columns, at_row, at_column, D, 32, PRECISION)
                same = is_same(
                    rows, columns, order_rows, order_columns, at_row, at_column, FORM
                )
                if FAR:
                    h = far_gradient(
                        s, rows, columns, rule, at_row, at_column, FORM, MINING, PLAIN
                    )
                    h = tl.where(valid & (s > 0.0) & ~same, h, 0.0)
                else:
                    counts = valid & ~same
                    d = distances(
                        s, rows, columns, rule, at_row, at_column, order_columns, counts, AXES
                    )
                    h = near_gradient(
                        s, d, rows, columns, rule, at_row, at_column, valid, same,
                        INFLUENCE, TURNS, FORM, MINING, PLAIN,
                    )  # fmt: skip
                    h = tl.where((s > 0.0) & ~same, h, 0.0)
                if not KEPT:
                    b = tl.load(b_at, there, 0.0)
                total = tl.dot(h.to(b.dtype), b, total, input_precision=PRECISION)
    place = out + (split.to(tl.int64) * num_rows + order_rows - first_row)[:, None] * D
    tl.store(place + along[None, :], total, (order_rows < stop)[:, None] & there)
