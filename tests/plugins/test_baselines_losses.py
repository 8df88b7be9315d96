"""The paper's baselines: golden values, explicit loops in float64, and awkward batches."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import Batch, BuildContext, ConfigError, Role
from mlcore_baselines.plugin import mlcore_losses

LOSSES = {factory.name: factory for factory in mlcore_losses()}
NAMES = list(LOSSES)
NEAR_M, FAR_M = 10.0, 20.0


class Logistic:
    """An influence function with a support that cuts it off visibly."""

    support_m = 12.0
    repulsion_start_m = 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        assert distance_m.dtype == torch.float64
        return torch.sigmoid(10 - distance_m)


CONTEXT = BuildContext(near_radius_m=NEAR_M, far_radius_m=FAR_M, influence=Logistic())


def build(name: str, context: BuildContext = CONTEXT, **options: Any) -> torch.nn.Module:
    factory = LOSSES[name]
    return factory.build(factory.config(**options), context)


def make_batch(roles: list[list[Role]], seed: int = 0) -> Batch:
    """Return tuples with images at random within or beyond the radii of their anchor."""
    generator = torch.Generator().manual_seed(seed)
    tuple_id = [t for t, members in enumerate(roles) for _ in members]
    role = torch.tensor([r for members in roles for r in members], dtype=torch.int64)
    size = len(role)
    bearing = 2 * math.pi * torch.rand(size, generator=generator, dtype=torch.float64)
    distance = torch.rand(size, generator=generator, dtype=torch.float64)
    distance = torch.where(role == Role.ANCHOR, 0.0, distance * NEAR_M)
    distance = torch.where(role >= Role.FAR, FAR_M + 4 * distance, distance)
    offset = distance[:, None] * torch.stack([bearing.cos(), bearing.sin()], dim=1)
    # Anchors 12 m apart: tuples overlap, so that pairs across them are of every kind.
    centre = torch.tensor([[458_000.0 + 12 * t, 5_549_000.0] for t in tuple_id]).double()
    return Batch(
        positions_m=centre + offset,
        headings_rad=None,
        tuple_id=torch.tensor(tuple_id, dtype=torch.int64),
        role=role,
        place_id=torch.zeros(size, dtype=torch.int64),
        index=torch.arange(size),
    )


Tuple = tuple[int, list[int], list[int], int | None]


def tuples_of(batch: Batch) -> Iterator[Tuple]:
    """Yield anchor, near images, far images and other-far image of each tuple."""
    for number in sorted(set(batch.tuple_id.tolist())):
        rows = [i for i, t in enumerate(batch.tuple_id.tolist()) if t == number]
        by_role = {role: [i for i in rows if batch.role[i] == role] for role in Role}
        other = by_role[Role.OTHER_FAR]
        yield (
            by_role[Role.ANCHOR][0],
            by_role[Role.NEAR],
            by_role[Role.FAR],
            other[0] if other else None,
        )


def metres(batch: Batch, i: int, j: int) -> float:
    return math.dist(batch.positions_m[i].tolist(), batch.positions_m[j].tolist())


def squared(x: Tensor, i: int, j: int) -> Tensor:
    return ((x[i] - x[j]) ** 2).sum()


def hinge_loss(
    x: Tensor,
    batch: Batch,
    *,
    positive: Callable[..., Any] = min,
    over_far: Callable[..., Any] = sum,
    margin: float = 0.1,
    second_margin: float | None = None,
) -> Tensor:
    total, count = x.sum() * 0, 0
    for a, near, far, other in tuples_of(batch):
        count += 1
        if not near or not far:
            continue
        bound = positive(squared(x, a, p) for p in near)
        total = total + over_far([torch.relu(margin + bound - squared(x, a, n)) for n in far])
        if second_margin is not None and other is not None:
            second = [torch.relu(second_margin + bound - squared(x, n, other)) for n in far]
            total = total + over_far(second)
    return total / count


def triplet_huber(x: Tensor, batch: Batch, *, near_radius_m: float) -> Tensor:
    terms = []
    for a, near, _, _ in tuples_of(batch):
        for p in near:
            error = (squared(x, a, p) / 2 - (metres(batch, a, p) / near_radius_m) ** 2).abs()
            terms.append(error**2 / 2 if error < 1 else error - 0.5)
    return hinge_loss(x, batch) + (0.5 * sum(terms) / len(terms) if terms else 0)


def log_ratio(x: Tensor, batch: Batch, *, floor_m: float = 1.0) -> Tensor:
    terms = []
    for a, near, far, _ in tuples_of(batch):
        for p in near:
            for n in far:
                ground = [max(metres(batch, a, i), floor_m) ** 2 for i in (p, n)]
                ratio = torch.log(squared(x, a, p) / squared(x, a, n))
                terms.append((ratio - math.log(ground[0] / ground[1])) ** 2)
    return sum(terms) / len(terms) if terms else x.sum() * 0


def generalized_contrastive(
    x: Tensor, batch: Batch, weight: Callable[[float], float], support_m: float
) -> Tensor:
    terms = []
    for a, near, far, _ in tuples_of(batch):
        for j in near + far:
            d = metres(batch, a, j)
            y = weight(d) if d < support_m else 0.0
            D = squared(x, a, j)
            terms.append(y * D / 2 + (1 - y) * torch.relu(0.5 - D.sqrt()) ** 2 / 2)
    return sum(terms) / len(terms) if terms else x.sum() * 0


def pair_class(batch: Batch, i: int, j: int, near_m: float, far_m: float) -> int:
    """Return 1 for one class, -1 for different ones, 0 for neither."""
    if i == j:
        return 0
    if batch.tuple_id[i] == batch.tuple_id[j]:
        return 1 if batch.role[i] <= Role.NEAR and batch.role[j] <= Role.NEAR else -1
    d = metres(batch, i, j)
    return 1 if d <= near_m else -1 if d > far_m else 0


def multi_similarity(
    e: Tensor, batch: Batch, near_m: float, far_m: float, *, mining: bool = True
) -> Tensor:
    """Section 1 of the reference with weights of 0 and 1."""
    x = e / e.norm(dim=1, keepdim=True)
    size, losses = len(batch), []
    for i in range(size):
        kind = [pair_class(batch, i, j, near_m, far_m) for j in range(size)]
        s = [torch.clamp(x[i] @ x[j], min=0) for j in range(size)]
        p = [s[j] * (kind[j] == 1) for j in range(size)]
        n = [s[j] * (kind[j] == -1) for j in range(size)]
        top = max(p)
        lowest = top + min((s[j] - top) * (kind[j] == 1) for j in range(size))
        keep_p = [
            j for j in range(size) if kind[j] == 1 and (p[j] < max(n) + 0.1 or not mining)
        ]
        keep_n = [
            j for j in range(size) if kind[j] == -1 and (n[j] > lowest - 0.1 or not mining)
        ]
        positive = 1 + sum(torch.exp(-2 * (p[j] - 1)) for j in keep_p)
        negative = 1 + sum(torch.exp(50 * (n[j] - 1)) for j in keep_n)
        losses.append(
            torch.log(torch.as_tensor(positive)) / 2 + torch.log(torch.as_tensor(negative)) / 50
        )
    return torch.stack(losses).mean()


REFERENCES: dict[str, Callable[[Tensor, Batch], Tensor]] = {
    "triplet": hinge_loss,
    "lazy-triplet": lambda x, b: hinge_loss(x, b, over_far=max),
    "hard-positive-triplet": lambda x, b: hinge_loss(x, b, positive=max),
    "quadruplet": lambda x, b: hinge_loss(x, b, second_margin=0.2),
    "lazy-quadruplet": lambda x, b: hinge_loss(x, b, over_far=max, second_margin=0.2),
    "triplet-huber": lambda x, b: triplet_huber(x, b, near_radius_m=NEAR_M),
    "log-ratio": log_ratio,
    "multi-similarity-paper": lambda x, b: multi_similarity(x, b, NEAR_M, FAR_M),
    "generalized-contrastive": lambda x, b: generalized_contrastive(
        x, b, lambda d: 1 / (1 + math.exp(d - 10)), 12.0
    ),
}


A, P, N, X = Role.ANCHOR, Role.NEAR, Role.FAR, Role.OTHER_FAR
EVEN = make_batch([[A, P, P, P, N, N, N, X]] * 3)
UNEVEN = make_batch([[A, P, N, N, N], [A, N, N, X], [A, P, P], [A], [A, P, P, P, N, X]])
ONE = make_batch([[A, P, P, N, N, N, X]])


def embed(batch: Batch, seed: int = 1, scale: float = 0.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(len(batch), 6, generator=generator, dtype=torch.float64)


def value_and_gradient(
    loss: Callable[..., Any], x: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    value = loss(x, batch)
    value = getattr(value, "loss", value)
    return value.detach(), torch.autograd.grad(value, x)[0]


def test_every_loss_has_a_reference() -> None:
    assert sorted(REFERENCES) == sorted(NAMES)


@pytest.mark.parametrize("batch", [EVEN, UNEVEN, ONE], ids=["even", "uneven", "one"])
@pytest.mark.parametrize("name", NAMES)
def test_losses_equal_explicit_loops(name: str, batch: Batch) -> None:
    x = embed(batch)
    value, gradient = value_and_gradient(build(name), x, batch)
    expected, expected_gradient = value_and_gradient(REFERENCES[name], x, batch)
    assert value > 0.01
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_differences(name: str) -> None:
    loss = build(name)
    x = embed(UNEVEN).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: loss(e, UNEVEN).loss, x)


@pytest.mark.parametrize("name", NAMES)
def test_order_and_numbers_of_tuples_do_not_matter(name: str) -> None:
    loss = build(name)
    x = embed(UNEVEN)
    order = torch.randperm(len(UNEVEN), generator=torch.Generator().manual_seed(2))
    shuffled = UNEVEN.take(order)
    shuffled.tuple_id.mul_(7).add_(3)
    torch.testing.assert_close(
        loss(x[order], shuffled).loss, loss(x, UNEVEN).loss, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("name", [n for n in NAMES if n != "multi-similarity-paper"])
def test_tuples_do_not_touch_each_other(name: str) -> None:
    loss = build(name)
    x = embed(EVEN)
    alone = [EVEN.take(EVEN.tuple_id == t) for t in range(3)]
    losses = [loss(x[EVEN.tuple_id == t], batch).loss for t, batch in enumerate(alone)]
    torch.testing.assert_close(loss(x, EVEN).loss, torch.stack(losses).mean())


def test_multi_similarity_can_keep_tuples_apart() -> None:
    loss = build("multi-similarity-paper", across_tuples="ignore")
    x = embed(EVEN)
    alone = [EVEN.take(EVEN.tuple_id == t) for t in range(3)]
    losses = [loss(x[EVEN.tuple_id == t], batch).loss for t, batch in enumerate(alone)]
    torch.testing.assert_close(loss(x, EVEN).loss, torch.stack(losses).mean())
    together = build("multi-similarity-paper")(x, EVEN).loss
    assert abs(together - loss(x, EVEN).loss) > 1e-3


@pytest.mark.parametrize("roles", [[A], [N], [A, P], [A, N], [A, X], [P, N]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_tuples_that_lack_images(name: str, roles: list[Role]) -> None:
    batch = make_batch([roles])
    value, gradient = value_and_gradient(build(name), embed(batch).float(), batch)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    if Role.NEAR not in roles or Role.FAR not in roles or Role.ANCHOR not in roles:
        counts_single_pairs = {
            "triplet-huber",
            "multi-similarity-paper",
            "generalized-contrastive",
        }
        if name not in counts_single_pairs:
            assert value == 0
            assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["duplicate", "zero", "large"])
@pytest.mark.parametrize("name", NAMES)
def test_awkward_embeddings_and_positions_stay_finite(
    name: str, kind: str, dtype: torch.dtype
) -> None:
    x = embed(EVEN).to(dtype)
    batch = dataclasses.replace(EVEN, positions_m=EVEN.positions_m[:1].expand(len(x), 2))
    x = {"duplicate": x[:1].repeat(len(x), 1), "zero": x * 0, "large": x * 1e6}[kind]
    value, gradient = value_and_gradient(build(name), x, batch)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_multi_similarity_stays_finite_for_a_sharp_negative_term() -> None:
    loss = build("multi-similarity-paper", beta=5000.0, base=0.5)
    value, gradient = value_and_gradient(loss, embed(EVEN).float(), EVEN)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_floors_of_log_ratio() -> None:
    batch = make_batch([[A, P, N]])
    batch.positions_m[1] = batch.positions_m[0]
    x = embed(batch)
    for floor_m in (0.5, 2.0):
        loss = build("log-ratio", position_floor_m=floor_m)
        expected = log_ratio(x, batch, floor_m=floor_m)
        torch.testing.assert_close(loss(x, batch).loss, expected)


@pytest.mark.parametrize(
    ("name", "options", "context", "message"),
    [
        (
            "log-ratio",
            {"position_floor_m": 0.0},
            CONTEXT,
            "position_floor_m must be greater than 0, got 0",
        ),
        (
            "triplet-huber",
            {"near_radius_m": -1.0},
            CONTEXT,
            "near_radius_m must be greater than 0, got -1",
        ),
        ("triplet-huber", {}, BuildContext(near_radius_m=0), "near_radius_m must be greater"),
        ("generalized-contrastive", {}, BuildContext(), "influence function"),
    ],
)
def test_options_that_cannot_work(
    name: str, options: dict[str, Any], context: BuildContext, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, context, **options)


def test_listing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys, mlcore_baselines.plugin as p; p.mlcore_losses(); p.mlcore_miners(); "
        "print([m for m in ('torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


NUMBERS = [
    (factory, field.name)
    for factory in LOSSES.values()
    for field in dataclasses.fields(factory.config)
    if "float" in str(field.type) and field.name != "base"  # any finite number
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize(("factory", "option"), NUMBERS)
def test_no_number_may_be_nonsense(factory: Any, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} must be .*, got {value:g}"):
        factory.config(**{option: value})
