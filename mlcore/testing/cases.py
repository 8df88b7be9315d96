"""The batches that losses and miners are tried on.

A *condition* is something that a batch of a real run may be like sooner or later. Each is
tried in one or more variants. Batches are small and in raw UTM, as data sets deliver them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mlcore.factories import BuildContext, LossFactory
from mlcore.geometry import NearFar
from mlcore.protocols import Batch, Loss, Pairs, Role, Triplets
from mlcore.testing.check import expect

NUM_DIMENSIONS = 6
NUM_PLACES = 32
UTM_ORIGIN_M = (455_000.0, 5_735_000.0)
_CELL_M = 15.0


class Ramp:
    """The influence function that losses are tried with: 1 at 0 m, 0 from 15 m on."""

    support_m = 15.0
    repulsion_start_m = 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return (1 - distance_m / self.support_m).clamp(min=0)


CONTEXT = BuildContext(
    seed=7,
    embedding_dim=NUM_DIMENSIONS,
    num_places=NUM_PLACES,
    near_radius_m=10.0,
    far_radius_m=25.0,
    near_heading_limit_rad=0.5,
    tuples_per_batch=2,
    has_headings=True,
    influence=Ramp(),
)
"""What components are built with: some pairs of the batches are neither near nor far."""

RELATION = NearFar.resolve(CONTEXT)


class Rows(NamedTuple):
    """Embeddings ``(B, D)`` and the batch they belong to."""

    embeddings: Tensor
    batch: Batch


class LossCase(NamedTuple):
    """A loss and what it is called with, ready to be called."""

    loss: Loss
    embeddings: Tensor
    batch: Batch
    tuples: Pairs | Triplets | None


def standard(*, num_tuples: int = 2, near: int = 3, far: int = 3, seed: int = 0) -> Rows:
    """Return tuples of an anchor, near, far and one other-far image, as the sampler does.

    The embeddings are random and of length 1.
    """
    generator = torch.Generator().manual_seed(seed)
    positions, roles, tuple_ids = [], [], []
    for number in range(num_tuples):
        anchor = torch.tensor([110.0 * number, 0.0])
        around = torch.rand(near, 2, generator=generator) * 12 - 6
        steps = torch.arange(far + 1)[:, None] * torch.tensor([[27.0, 0.0]])
        beyond = steps + torch.tensor([0.0, 45.0]) + torch.rand(far + 1, 2, generator=generator)
        positions += [anchor[None], anchor + around, anchor + beyond]
        roles += [Role.ANCHOR] + [Role.NEAR] * near + [Role.FAR] * far + [Role.OTHER_FAR]
        tuple_ids += [number] * (2 + near + far)
    size = len(roles)
    headings = torch.rand(size, generator=generator, dtype=torch.float64) * 0.4 - 0.2
    batch = make_batch(torch.cat(positions), roles, tuple_ids, headings_rad=headings)
    return Rows(unit_rows(size, seed=seed + 1), batch)


def make_batch(
    offsets_m: Tensor,
    roles: list[Role],
    tuple_ids: list[int],
    *,
    headings_rad: Tensor,
) -> Batch:
    """Return a batch at ``offsets_m`` ``(B, 2)`` from the UTM origin, places from a grid."""
    cells = torch.floor(offsets_m / _CELL_M).long()
    _, place = torch.unique(cells, dim=0, return_inverse=True)
    return Batch(
        positions_m=offsets_m.double() + torch.tensor(UTM_ORIGIN_M, dtype=torch.float64),
        headings_rad=headings_rad,
        tuple_id=torch.tensor(tuple_ids, dtype=torch.int64),
        role=torch.tensor([int(role) for role in roles], dtype=torch.int64),
        place_id=place % NUM_PLACES,
        index=torch.arange(len(roles)),
    )


def unit_rows(size: int, *, seed: int = 0) -> Tensor:
    """Return random embeddings of length 1."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(size, NUM_DIMENSIONS, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows).float()


def tuples_for(batch: Batch, form: type[Pairs | Triplets] | None) -> Pairs | Triplets | None:
    """Return all near and far tuples of a batch in a loss's ``accepts`` form."""
    if form is None:
        return None
    near, far = RELATION(batch)
    if form is Pairs:
        return Pairs(*near.nonzero().T, *far.nonzero().T)
    return Triplets(*(near[:, :, None] & far[:, None, :]).nonzero().T)


def clusters(seed: int) -> Rows:
    """Return tuples whose near images share a place and whose far images have others.

    So the labels and the distances of the batch agree, whichever a loss goes by.
    """
    generator = torch.Generator().manual_seed(seed)
    num_tuples, near, far = 4, 3, 3
    positions, roles, tuple_ids = [], [], []
    for number in range(num_tuples):
        anchor = torch.tensor([_CELL_M / 2 + 10 * _CELL_M * number, _CELL_M / 2])
        around = anchor + torch.rand(near, 2, generator=generator) * 5 - 2.5
        beyond = anchor + torch.arange(1, far + 2)[:, None] * torch.tensor([[0.0, 2 * _CELL_M]])
        positions += [anchor[None], around, beyond]
        roles += [Role.ANCHOR] + [Role.NEAR] * near + [Role.FAR] * far + [Role.OTHER_FAR]
        tuple_ids += [number] * (2 + near + far)
    size = len(roles)
    headings = torch.rand(size, generator=generator, dtype=torch.float64) * 0.4 - 0.2
    batch = make_batch(torch.cat(positions), roles, tuple_ids, headings_rad=headings)
    return Rows(unit_rows(size, seed=seed + 1), batch)


def at_thresholds(thresholds_m: Sequence[float]) -> Rows:
    """Return a tuple whose images lie at thresholds from the anchor, or 1 mm from them."""
    around = [t + step for t in thresholds_m for step in (-0.001, 0.0, 0.001) if t + step > 0]
    distances = sorted({*around, 90.0, 95.0})
    roles = [Role.ANCHOR]
    roles += [Role.NEAR if d <= CONTEXT.near_radius_m else Role.FAR for d in distances]
    roles[-1] = Role.OTHER_FAR
    size = len(roles)
    # Float64 for the millimetres; from 0 upwards along one axis, so that a threshold is exact.
    offsets = torch.zeros(size, 2, dtype=torch.float64)
    offsets[1:, 0] = torch.tensor(distances, dtype=torch.float64)
    headings = torch.zeros(size, dtype=torch.float64)
    return Rows(
        unit_rows(size, seed=5), make_batch(offsets, roles, [0] * size, headings_rad=headings)
    )


def thresholds_m(config: Any, *, largest: float = 80.0) -> list[float]:
    """Return where a loss or miner may decide: the context's radii and its own in metres."""
    own = [
        value
        for field in fields(config)
        if field.name.endswith("_m") and isinstance(value := getattr(config, field.name), float)
    ]
    found = {CONTEXT.near_radius_m, CONTEXT.far_radius_m, Ramp.support_m, *own}
    return sorted(value for value in found if 0 < value <= largest)


_BATCH_COLUMNS = (
    "positions_m",
    "headings_rad",
    "tuple_id",
    "role",
    "place_id",
    "index",
    "region",
)


def columns_of(batch: Batch) -> dict[str, Tensor]:
    """Return every tensor of a batch by name."""
    columns = {f"batch.{name}": getattr(batch, name) for name in _BATCH_COLUMNS}
    return {name: column for name, column in columns.items() if column is not None}


def expect_unmodified(now: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """Raise Fault if a tensor is not what it was."""
    changed = [name for name, tensor in now.items() if not torch.equal(tensor, before[name])]
    expect(not changed, "inputs as they were before the call", f"{', '.join(changed)} changed")


def _with_roles(*wanted: Role) -> Rows:
    embeddings, batch = standard()
    keep = torch.isin(batch.role, torch.tensor([int(role) for role in wanted]))
    return Rows(embeddings[keep], batch.take(keep))


def _one_row() -> dict[str, Rows]:
    embeddings, batch = standard()
    return {"": Rows(embeddings[:1], batch.take(slice(0, 1)))}


def _no_positive() -> dict[str, Rows]:
    embeddings, batch = _with_roles(Role.ANCHOR, Role.FAR, Role.OTHER_FAR)
    # Cells of the grid are wide enough for two far images: each is a place of its own here.
    return {"": Rows(embeddings, replace(batch, place_id=torch.arange(len(batch))))}


def _no_negative() -> dict[str, Rows]:
    embeddings, batch = _with_roles(Role.ANCHOR, Role.NEAR)
    first = batch.tuple_id == 0
    batch = batch.take(first)
    return {"": Rows(embeddings[first], replace(batch, place_id=torch.zeros_like(batch.role)))}


def _neither() -> dict[str, Rows]:
    offsets, headings = torch.tensor([[0.0, 0.0], [17.0, 0.0]]), torch.zeros(2).double()
    batch = make_batch(offsets, [Role.ANCHOR] * 2, [0, 1], headings_rad=headings)
    return {"": Rows(unit_rows(2), batch)}


def _duplicate_embeddings() -> dict[str, Rows]:
    embeddings, batch = standard()
    near, far, all_same = (embeddings.clone() for _ in range(3))
    near[1] = near[0]
    far[4] = far[0]
    all_same[:] = all_same[0]
    return {
        "an anchor and a near image": Rows(near, batch),
        "an anchor and a far image": Rows(far, batch),
        "all": Rows(all_same, batch),
    }


def _zero_embeddings() -> dict[str, Rows]:
    embeddings, batch = standard()
    anchor, near = embeddings.clone(), embeddings.clone()
    anchor[0], near[1] = 0, 0
    return {
        "an anchor": Rows(anchor, batch),
        "a near image": Rows(near, batch),
        "all": Rows(torch.zeros_like(embeddings), batch),
    }


def _opposite_embeddings() -> dict[str, Rows]:
    embeddings, batch = standard()
    near, far = embeddings.clone(), embeddings.clone()
    near[1], far[4] = -near[0], -far[0]
    return {
        "an anchor and a near image": Rows(near, batch),
        "an anchor and a far image": Rows(far, batch),
    }


def _coincident_positions() -> dict[str, Rows]:
    embeddings, batch = standard()
    positions = batch.positions_m.clone()
    positions[1:3] = positions[0]
    one_place = _no_negative()[""]
    everywhere = one_place.batch.positions_m[:1].expand(len(one_place.batch), 2).clone()
    return {
        "an anchor and two near images": Rows(
            embeddings, replace(batch, positions_m=positions)
        ),
        "all": Rows(one_place.embeddings, replace(one_place.batch, positions_m=everywhere)),
    }


def _no_headings() -> dict[str, Rows]:
    embeddings, batch = standard()
    return {"": Rows(embeddings, replace(batch, headings_rad=None))}


def _altitudes() -> dict[str, Rows]:
    embeddings, batch = standard()
    height = torch.linspace(200, 203, len(batch), dtype=torch.float64)[:, None]
    positions = torch.cat([batch.positions_m, height], dim=1)
    return {"": Rows(embeddings, replace(batch, positions_m=positions))}


def _short_tuples() -> dict[str, Rows]:
    """As the sampler makes them where there are not enough images."""
    embeddings, batch = standard()
    second = batch.tuple_id == 1
    keep = torch.ones(len(batch), dtype=torch.bool)
    for role in (Role.NEAR, Role.FAR):
        keep[(second & (batch.role == role)).nonzero()[: 2 if role == Role.NEAR else 1]] = False
    return {"": Rows(embeddings[keep], batch.take(keep))}


CONDITIONS: dict[str, Callable[[], dict[str, Rows]]] = {
    "one-row": _one_row,
    "no-positive": _no_positive,
    "no-negative": _no_negative,
    "neither": _neither,
    "duplicate-embeddings": _duplicate_embeddings,
    "zero-embeddings": _zero_embeddings,
    "opposite-embeddings": _opposite_embeddings,
    "coincident-positions": _coincident_positions,
    "no-headings": _no_headings,
    "altitudes": _altitudes,
    "short-tuples": _short_tuples,
}
"""The batches of each condition, by variant."""


def rows_of(condition: str, variant: str = "") -> Rows:
    """Return the batch of a condition; "standard" is an ordinary one.

    Raises:
        KeyError: There is no such condition or variant.
    """
    return standard() if condition == "standard" else CONDITIONS[condition]()[variant]


def loss_case_of(
    factory: LossFactory,
    rows: Rows,
    *,
    dtype: torch.dtype = torch.float32,
    config: Any = None,
) -> LossCase:
    """Build a loss with its default options or ``config``, and what it is called with."""
    has_headings = rows.batch.headings_rad is not None
    context = replace(CONTEXT, has_headings=has_headings)
    loss: Any = factory.build(factory.config() if config is None else config, context)
    if dtype == torch.float64 and isinstance(loss, torch.nn.Module):
        loss = loss.double()
    embeddings, batch = rows
    if "other-far" not in factory.needs:
        keep = batch.role != Role.OTHER_FAR
        embeddings, batch = embeddings[keep], batch.take(keep)
    leaf = embeddings.to(dtype, copy=True).requires_grad_()
    return LossCase(loss, leaf, batch, tuples_for(batch, factory.accepts))


def build(factory: Any, context: BuildContext = CONTEXT) -> Any:
    """Build a component with its default options."""
    return factory.build(factory.config(), context)
