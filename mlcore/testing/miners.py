"""Checks of miners."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mlcore.factories import MinerFactory
from mlcore.geometry import NearFar
from mlcore.protocols import Pairs, Triplets
from mlcore.testing.cases import (
    CONDITIONS,
    CONTEXT,
    RELATION,
    Rows,
    at_thresholds,
    build,
    columns_of,
    expect_unmodified,
    standard,
    thresholds_m,
)
from mlcore.testing.check import Fault, expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace


def form(subject: Subject) -> None:
    """Tuples are of the declared kind, int64 and of one length."""
    tuples = _mine(subject.factory, _ordinary())
    expect(len(tuples[0]), "some tuples from an ordinary batch", "none")


def indices_valid(subject: Subject) -> None:
    """Every index is a row; nothing is compared with itself."""
    rows = _ordinary()
    for anchors, others, _ in _sides(_mine(subject.factory, rows)):
        size = len(rows.batch)
        for column in (anchors, others):
            outside = column[(column < 0) | (column >= size)]
            expect(not len(outside), f"rows in [0, {size})", f"{outside.tolist()[:5]}")
        same = anchors[anchors == others]
        expect(not len(same), "images paired with others", f"{same.tolist()[:5]} with itself")


def roles_right(subject: Subject) -> None:
    """Positives are near and look the same way, negatives are far; across regions too."""
    for rows in (_ordinary(), _turned(), _two_regions()):
        _expect_roles(subject, rows)


def _turned() -> Rows:
    """Return the ordinary batch with every second image looking the other way."""
    rows = _ordinary()
    headings = rows.batch.headings_rad
    assert headings is not None
    turn = math.pi * (torch.arange(len(headings)) % 2)
    return rows._replace(batch=replace(rows.batch, headings_rad=headings - turn))


def _two_regions() -> Rows:
    """Return the ordinary batch with the second tuple at the positions of the first."""
    rows = _ordinary()
    batch = rows.batch
    half = len(batch) // 2
    positions = torch.cat([batch.positions_m[:half]] * 2)
    return rows._replace(batch=replace(batch, positions_m=positions, region=batch.tuple_id))


def near_thresholds(subject: Subject) -> None:
    """Likewise of pairs exactly at a radius, which are near and not far, and 1 mm from it."""
    _expect_roles(subject, at_thresholds(thresholds_m(subject.factory.config())))


def _expect_roles(subject: Subject, rows: Rows) -> None:
    near, far = RELATION(rows.batch)
    for anchors, others, is_positive in _sides(_mine(subject.factory, rows)):
        allowed = near if is_positive else far
        wrong = (~allowed[anchors, others]).nonzero()[:, 0]
        if len(wrong):
            row, other = int(anchors[wrong[0]]), int(others[wrong[0]])
            raise Fault(
                f"{_told(is_positive)} (context.near_radius_m, far_radius_m, "
                "near_heading_limit_rad)",
                f"{len(wrong)} others, such as rows {row} and {other}, "
                f"{_apart(rows, row, other)}",
            )


def seed(subject: Subject) -> None:
    """Same seed, same tuples, whatever was drawn or mined before."""
    rows, factory = _ordinary(), subject.factory
    torch.manual_seed(1)
    miner = build(factory)
    first, again = miner(*rows), miner(*rows)
    torch.manual_seed(2)
    other = build(factory)(*rows)
    if not _same(first, again):
        torch.manual_seed(1)
        once = miner(*rows)
        torch.manual_seed(1)
        is_random = _same(once, miner(*rows))
        raise Fault(
            "the same tuples for the same input at every call",
            "others: it draws random numbers when it is called. Draw them from a generator "
            "that each call makes anew from context.seed"
            if is_random
            else "others: a call left something behind, or draws random numbers of its own",
        )
    expect(
        _same(first, other),
        "the same tuples of another miner built with the same context",
        "others; draw from torch.Generator().manual_seed(context.seed)",
    )
    rows = standard(near=3, far=3, seed=1)
    expect(
        _same(miner(*rows), build(factory)(*rows)),
        "the tuples of a batch whatever batch came before",
        "others: it keeps something of the first batch",
    )


def inputs_unmodified(subject: Subject) -> None:
    """The loss uses embeddings and batch after the miner."""
    rows = _ordinary()
    inputs = {"embeddings": rows.embeddings, **columns_of(rows.batch)}
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    _mine(subject.factory, rows)
    expect_unmodified(inputs, before)


def condition(subject: Subject, name: str) -> None:
    """Tuples are well-formed for every variant, if there are any."""
    for rows in CONDITIONS[name]().values():
        tuples = _mine(subject.factory, rows)
        for column in tuples:
            expect(
                bool(((column >= 0) & (column < len(rows.batch))).all()),
                f"rows in [0, {len(rows.batch)})",
                column.tolist()[:5],
            )


def _ordinary() -> Rows:
    return standard(near=4, far=4)


def _mine(factory: MinerFactory, rows: Rows) -> Pairs | Triplets:
    context = replace(CONTEXT, has_headings=rows.batch.headings_rad is not None)
    tuples: Any = build(factory, context)(*rows)
    expect(
        isinstance(tuples, factory.produces),
        f"{factory.produces.__name__}, as declared",
        type(tuples).__name__,
    )
    for name, column in tuples._asdict().items():
        is_index = isinstance(column, Tensor) and column.dtype == torch.int64
        expect(is_index and column.ndim == 1, f"{name} as int64 (K,)", _described(column))
    for anchors, others, _ in _sides(tuples):
        expect(
            len(anchors) == len(others),
            "columns of one length",
            f"{len(anchors)} anchors of {len(others)} images",
        )
    return tuples  # type: ignore[no-any-return]


def _sides(tuples: Pairs | Triplets) -> list[tuple[Tensor, Tensor, bool]]:
    """Return anchors, what they are paired with, and whether as positives."""
    if isinstance(tuples, Triplets):
        return [
            (tuples.anchors, tuples.positives, True),
            (tuples.anchors, tuples.negatives, False),
        ]
    return [
        (tuples.anchors_of_positives, tuples.positives, True),
        (tuples.anchors_of_negatives, tuples.negatives, False),
    ]


def _told(is_positive: bool) -> str:
    relation: NearFar = RELATION
    if is_positive:
        return f"positives within {relation.near_radius_m:g} m, looking the same way"
    return f"negatives beyond {relation.far_radius_m:g} m"


def _apart(rows: Rows, row: int, other: int) -> str:
    """Return what is between two images, in words."""
    batch = rows.batch
    positions = batch.positions_m
    words = f"{float(torch.linalg.vector_norm(positions[row] - positions[other])):.3f} m apart"
    if batch.region is not None and batch.region[row] != batch.region[other]:
        return f"{words} in numbers, but of two regions (batch.region)"
    if batch.headings_rad is not None:
        turn = float(batch.headings_rad[row] - batch.headings_rad[other])
        words += f", headings {abs(math.remainder(turn, 2 * math.pi)):.2f} rad apart"
    return words


def _same(first: Pairs | Triplets, second: Pairs | Triplets) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}"
    return type(value).__name__


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    miner = build(subject.factory)
    return miner, lambda: miner(*_ordinary())


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "form": form,
    "indices-valid": indices_valid,
    "roles-right": roles_right,
    "near-thresholds": near_thresholds,
    "seed": seed,
    "inputs-unmodified": inputs_unmodified,
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
    **{name: partial(condition, name=name) for name in CONDITIONS},
}
