"""The adapter of pytorch-metric-learning: what goes in, what comes out, what it trains."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch

from mlcore import Batch, BuildContext, ConfigError, Pairs, Triplets
from mlcore.factories import LossFactory, MinerFactory
from mlcore_pml.factories import GeometryOptions
from mlcore_pml.plugin import mlcore_losses, mlcore_miners

LOSSES = {factory.name: factory for factory in mlcore_losses()}
MINERS = {factory.name: factory for factory in mlcore_miners()}
NUM_PLACES, DIMENSIONS = 5, 8
RANDOM = {"pml-distance-weighted"}
CONTEXT = BuildContext(
    seed=3, num_places=NUM_PLACES, embedding_dim=DIMENSIONS, near_radius_m=10, far_radius_m=20
)


def unit_rows(size: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(size, DIMENSIONS, generator=generator))


def make_batch(along_m: list[float], places: list[int] | None = None) -> Batch:
    """Return images on a straight street."""
    size = len(along_m)
    positions = torch.zeros(size, 2, dtype=torch.float64)
    positions[:, 0] = torch.tensor(along_m, dtype=torch.float64)
    zeros = torch.zeros(size, dtype=torch.int64)
    return Batch(
        positions_m=positions,
        headings_rad=None,
        tuple_id=zeros,
        role=zeros,
        place_id=torch.tensor(places or [0] * size, dtype=torch.int64),
        index=torch.arange(size),
    )


# Places far apart, all near within: geometry and class labels say the same.
CLUSTERS = make_batch(
    [100.0 * (i // 3) + i % 3 for i in range(12)], [i // 3 for i in range(12)]
)
# A street: nearness is not transitive, and some pairs are neither near nor far.
STREET = make_batch([0, 4, 9, 13, 21, 28, 35, 36, 50, 64])


def build(factory: LossFactory | MinerFactory, **options: object) -> object:
    return factory.build(factory.config(**options), CONTEXT)


def tuples_of(batch: Batch, form: type[Pairs | Triplets] | None) -> Pairs | Triplets | None:
    near, far = near_and_far(batch)
    if form is Pairs:
        return Pairs(*torch.where(near), *torch.where(far))
    if form is Triplets:
        return Triplets(*torch.where(near[:, :, None] & far[:, None, :]))
    return None


def near_and_far(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    along = batch.positions_m[:, 0]
    distance = (along[:, None] - along[None]).abs()
    near = distance <= CONTEXT.near_radius_m
    return near.fill_diagonal_(False), distance > CONTEXT.far_radius_m


def test_listing_imports_neither_torch_nor_pml() -> None:
    code = (
        "import sys, mlcore_pml.plugin as p; p.mlcore_losses(); p.mlcore_miners(); "
        "print([m for m in ('torch', 'numpy', 'pytorch_metric_learning') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("factory", [*LOSSES.values(), *MINERS.values()], ids=lambda f: f.name)
def test_options_are_the_arguments_of_pml_with_its_defaults(
    factory: LossFactory | MinerFactory,
) -> None:
    built = build(factory)
    inner = built.loss if isinstance(factory, LossFactory) else built._miner
    arguments: dict[str, inspect.Parameter] = {}
    for cls in reversed(type(inner).__mro__):
        if "__init__" in vars(cls):
            arguments |= inspect.signature(cls.__init__).parameters
    geometry = {field.name for field in dataclasses.fields(GeometryOptions)}
    for field in dataclasses.fields(factory.config):
        if field.name in geometry:
            continue
        default = arguments[field.name].default
        assert default in (field.default, inspect.Parameter.empty), field.name


@pytest.mark.parametrize("factory", LOSSES.values(), ids=LOSSES)
def test_losses_equal_pml_with_class_labels_where_places_are_classes(
    factory: LossFactory,
) -> None:
    loss = build(factory)
    embeddings = unit_rows(12).requires_grad_()
    output = loss(embeddings, CLUSTERS, tuples_of(CLUSTERS, factory.accepts))
    expected = loss.loss(embeddings, CLUSTERS.place_id)
    torch.testing.assert_close(output.loss, expected)
    ours, theirs = (torch.autograd.grad(v, embeddings)[0] for v in (output.loss, expected))
    torch.testing.assert_close(ours, theirs)
    assert ours.abs().max() > 1e-4
    assert all(isinstance(value, int) for value in output.stats.values())


def test_weights_of_a_loss_are_its_parameters_and_depend_on_the_seed_only() -> None:
    factory = LOSSES["pml-proxy-anchor"]
    torch.manual_seed(0)
    loss = build(factory)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1)), "building a loss moved the global generator"
    (weights,) = loss.parameters()
    assert weights.shape == (NUM_PLACES, DIMENSIONS)
    assert torch.equal(weights, next(build(factory).parameters()))
    loss(unit_rows(12), CLUSTERS).loss.backward()
    assert weights.grad.abs().sum() > 0


def test_weights_need_places() -> None:
    factory = LOSSES["pml-proxy-anchor"]
    with pytest.raises(ConfigError, match="got 0 places"):
        factory.build(factory.config(), BuildContext(embedding_dim=DIMENSIONS))


@pytest.mark.parametrize("name", [name for name in MINERS if name not in RANDOM])
def test_miners_equal_pml_with_class_labels_where_places_are_classes(name: str) -> None:
    factory = MINERS[name]
    embeddings = unit_rows(12)
    miner = build(factory)
    mined = miner(embeddings, CLUSTERS)
    assert type(mined) is factory.produces
    expected = miner._miner(embeddings, CLUSTERS.place_id)
    assert len(mined[0]) > 0
    assert rows(mined) == rows(expected)


@pytest.mark.parametrize("factory", MINERS.values(), ids=MINERS)
def test_miners_keep_to_near_and_far_on_a_street(factory: MinerFactory) -> None:
    wide = {"neg_margin": 2.0} if factory.name == "pml-pair-margin" else {}
    mined = build(factory, **wide)(unit_rows(10), STREET)
    near, far = near_and_far(STREET)
    anchors_of_negatives = mined[-2] if factory.produces is Pairs else mined[0]
    assert near[mined[0], mined[1]].all()
    assert far[anchors_of_negatives, mined[-1]].all()
    assert len(mined[1]) > 0
    assert len(mined[-1]) > 0


def rows(mined: tuple[torch.Tensor, ...]) -> list[set[tuple[int, ...]]]:
    """Return what was mined whatever its order: two sets of pairs, or one of triplets."""
    groups = [mined[:2], mined[2:]] if len(mined) == 4 else [mined]
    return [set(zip(*(c.tolist() for c in group), strict=True)) for group in groups]


def similarity(size: int) -> list[list[float]]:
    embeddings = unit_rows(size)
    return (embeddings @ embeddings.T).tolist()


def test_multi_similarity_miner_equals_explicit_loops_on_a_street() -> None:
    near, far = near_and_far(STREET)
    s, every = similarity(10), range(10)
    positives, negatives = set(), set()
    for i in every:
        p = [j for j in every if near[i, j]]
        n = [j for j in every if far[i, j]]
        if p and n:
            hardest_n, hardest_p = max(s[i][j] for j in n), min(s[i][j] for j in p)
            positives |= {(i, j) for j in p if s[i][j] - 0.2 < hardest_n}
            negatives |= {(i, j) for j in n if s[i][j] + 0.2 > hardest_p}
    miner = build(MINERS["pml-multi-similarity-miner"], epsilon=0.2)
    assert rows(miner(unit_rows(10), STREET)) == [positives, negatives]


def test_batch_hard_equals_explicit_loops_on_a_street() -> None:
    near, far = near_and_far(STREET)
    s, every = similarity(10), range(10)
    expected = {
        (
            i,
            min((j for j in every if near[i, j]), key=lambda j: s[i][j]),
            max((j for j in every if far[i, j]), key=lambda j: s[i][j]),
        )
        for i in every
        if near[i].any() and far[i].any()
    }
    assert rows(build(MINERS["pml-batch-hard"])(unit_rows(10), STREET)) == [expected]


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_miners_depend_on_seed_and_images_only(name: str) -> None:
    factory = MINERS[name]
    embeddings = unit_rows(10)
    torch.manual_seed(0)
    mined = rows(build(factory)(embeddings, STREET))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1)), "mining moved the global generator"
    assert rows(build(factory)(embeddings, STREET)) == mined
    other = factory.build(factory.config(), dataclasses.replace(CONTEXT, seed=4))
    assert rows(other(embeddings, STREET)) != mined
    assert (
        rows(build(factory)(embeddings, dataclasses.replace(STREET, index=STREET.index + 1)))
        != mined
    )


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "pml-batch-easy-hard",
            {"pos_strategy": "all"},
            "BatchEasyHardMiner does not accept pos_str",
        ),
        ("pml-ranked-list", {"imbalance": 2.0}, "imbalance must be between 0 and 1, got 2"),
    ],
)
def test_options_that_pml_refuses(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**LOSSES, **MINERS}[name], **options)


@pytest.mark.parametrize("factory", MINERS.values(), ids=MINERS)
def test_nothing_near_and_nothing_far_mines_nothing(factory: MinerFactory) -> None:
    for along in ([], [0.0], [0.0, 15.0]):
        mined = build(factory)(unit_rows(len(along)), make_batch(along))
        assert type(mined) is factory.produces
        assert all(column.shape == (0,) and column.dtype == torch.int64 for column in mined)


# Sizes beside the conditions that the conformance kit knows, and both dtypes.
SIZES = {
    "two-rows": (unit_rows(2), make_batch([0, 1])),
    "uneven": (
        unit_rows(8),
        make_batch([0, 1, 2, 50, 51, 90, 130, 170], [0, 0, 0, 1, 1, 2, 3, 4]),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factory", LOSSES.values(), ids=LOSSES)
def test_losses_are_finite(factory: LossFactory, size: str, dtype: torch.dtype) -> None:
    embeddings, batch = SIZES[size]
    embeddings = embeddings.to(dtype, copy=True).requires_grad_()
    value = build(factory)(embeddings, batch, tuples_of(batch, factory.accepts)).loss
    assert value.shape == ()
    (gradient,) = torch.autograd.grad(value, embeddings)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


NUMBERS = [
    (factory, field.name)
    for factory in [*LOSSES.values(), *MINERS.values()]
    for field in dataclasses.fields(factory.config)
    if "float" in str(field.type)
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -3.0])
@pytest.mark.parametrize(("factory", "option"), NUMBERS)
def test_no_number_may_be_nonsense(factory: Any, option: str, value: float) -> None:
    given = (value, value) if option.startswith("allowed") else value
    with pytest.raises(ConfigError, match=f"{option} must be .*, got {value:g}"):
        factory.config(**{option: given})
