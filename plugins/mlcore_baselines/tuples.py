"""The rows of each tuple of a batch, and terms shared by several losses.

Tuples may be of any and of uneven size. Everything is computed for all tuples at once, in
memory that grows with the number of images.

Shapes: ``T`` tuples, ``P`` near and ``N`` far images of all tuples together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore.protocols import Batch, Role


@dataclass(frozen=True, kw_only=True)
class TupleRows:
    """Which rows of a batch are near and far images, and whose.

    Attributes:
        count: ``T``.
        anchor: ``(T,)`` int64, row of each tuple's anchor.
        near: ``(P,)`` int64, rows of the near images.
        near_tuple: ``(P,)`` int64 in ``[0, T)``, their tuples.
        far: ``(N,)`` int64, rows of the far images; other-far images are not among them.
        far_tuple: ``(N,)`` int64 in ``[0, T)``, their tuples.
        other_far: ``(T,)`` int64, row of each tuple's other-far image, -1 if it has none.

    In a batch of places, without any far image, the anchors of the other places, which are far
    from each other, are the far images of each; the next one is its other-far image.
    """

    count: int
    anchor: Tensor
    near: Tensor
    near_tuple: Tensor
    far: Tensor
    far_tuple: Tensor
    other_far: Tensor

    @classmethod
    def of(cls, batch: Batch) -> TupleRows:
        """Sort the rows of ``batch``; images of a tuple without an anchor are left out."""
        ids, numbers = torch.unique(batch.tuple_id, return_inverse=True)
        anchor = _row_of_each(Role.ANCHOR, batch, numbers, len(ids))
        has_anchor = (anchor >= 0)[numbers]
        near = ((batch.role == Role.NEAR) & has_anchor).nonzero()[:, 0]
        far = ((batch.role == Role.FAR) & has_anchor).nonzero()[:, 0]
        if not (batch.role == Role.FAR).any() and (anchor >= 0).all():
            return _of_places(anchor, near, numbers[near])
        return cls(
            count=len(ids),
            anchor=anchor,
            near=near,
            near_tuple=numbers[near],
            far=far,
            far_tuple=numbers[far],
            other_far=_row_of_each(Role.OTHER_FAR, batch, numbers, len(ids)),
        )


def _of_places(anchor: Tensor, near: Tensor, near_tuple: Tensor) -> TupleRows:
    count = len(anchor)
    far_tuple, other = (1 - torch.eye(count, device=anchor.device)).nonzero(as_tuple=True)
    return TupleRows(
        count=count,
        anchor=anchor,
        near=near,
        near_tuple=near_tuple,
        far=anchor[other],
        far_tuple=far_tuple,
        other_far=anchor.roll(-1) if count > 2 else torch.full_like(anchor, -1),
    )


def _row_of_each(role: Role, batch: Batch, numbers: Tensor, count: int) -> Tensor:
    """Return the row that plays ``role`` in each tuple, -1 for none."""
    rows = (batch.role == role).nonzero()[:, 0]
    result = torch.full((count,), -1, dtype=torch.int64, device=rows.device)
    result[numbers[rows]] = rows
    return result


def near_distance(embeddings: Tensor, rows: TupleRows) -> Tensor:
    """Return D(a, p) of each near image, ``(P,)``."""
    return _squared_distance(embeddings, rows.anchor[rows.near_tuple], rows.near)


def far_distance(embeddings: Tensor, rows: TupleRows) -> Tensor:
    """Return D(a, n) of each far image, ``(N,)``."""
    return _squared_distance(embeddings, rows.anchor[rows.far_tuple], rows.far)


def nearest(embeddings: Tensor, rows: TupleRows) -> Tensor:
    """Return B = min_p D(a, p) of each tuple, ``(T,)``; -inf for a tuple without near images.

    Added to a margin, -inf makes a hinge of 0: such a tuple costs nothing.
    """
    return _over_near(embeddings, rows, "amin")


def farthest(embeddings: Tensor, rows: TupleRows) -> Tensor:
    """Return B = max_p D(a, p) of each tuple, ``(T,)``; -inf as in :func:`nearest`."""
    return _over_near(embeddings, rows, "amax")


def anchor_hinges(embeddings: Tensor, rows: TupleRows, bound: Tensor, margin: float) -> Tensor:
    """Return max(0, margin + B - D(a, n)) of each far image, ``(N,)``; ``bound`` is B."""
    return torch.relu(margin + bound[rows.far_tuple] - far_distance(embeddings, rows))


def other_far_hinges(
    embeddings: Tensor, rows: TupleRows, bound: Tensor, margin: float
) -> Tensor:
    """Return max(0, margin + B - D(n, n*)) of each far image, ``(N,)``; ``bound`` is B.

    0 where the tuple has no other-far image n*, or where n is n*.
    """
    other = rows.other_far[rows.far_tuple]
    distance = _squared_distance(embeddings, rows.far, other)
    hinges = torch.relu(margin + bound[rows.far_tuple] - distance)
    return torch.where((other >= 0) & (other != rows.far), hinges, 0.0)


def mean_of_sums(far: Tensor, rows: TupleRows) -> Tensor:
    """Return the mean over tuples of the sum over far images of ``far`` ``(N,)``."""
    return far.sum() / rows.count


def mean_of_maxima(far: Tensor, rows: TupleRows) -> Tensor:
    """Return the mean over tuples of the maximum over far images of ``far`` ``(N,)`` >= 0."""
    none = torch.zeros(rows.count, dtype=far.dtype, device=far.device)
    return none.scatter_reduce(0, rows.far_tuple, far, "amax").sum() / rows.count


def share_above_zero(far: Tensor) -> Tensor:
    """Return the share of hinges that cost something, for the stats."""
    return (far.detach() > 0).float().sum() / max(len(far), 1)


def _over_near(embeddings: Tensor, rows: TupleRows, reduce: str) -> Tensor:
    near = near_distance(embeddings, rows)
    none = torch.full((rows.count,), -torch.inf, dtype=near.dtype, device=near.device)
    return none.scatter_reduce(0, rows.near_tuple, near, reduce, include_self=False)


def _squared_distance(embeddings: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return (embeddings[first] - embeddings[second]).square().sum(dim=-1)
