"""Values against explicit loops, for any shape, coincident points and duplicates."""

from __future__ import annotations

import pytest
import torch
from cases import EVERY, IDS, batch_at, build, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import Loops

from mlcore_graded import rows, sorted_sums
from mlcore_soft_contrastive.influence import Linear, Step, Tanh

every = pytest.mark.parametrize(("name", "options", "by_loops"), EVERY, ids=IDS)


def scene(size, seed=0, spread_m=40.0):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    # Whole metres on a small square: equal distances and coincident positions are common.
    positions_m = (torch.rand(size, 2, generator=generator) * spread_m).round().double()
    return embeddings, positions_m + torch.tensor([455_000.0, 5_735_000.0])


def expected(by_loops, embeddings, positions_m, influence=None):
    x = rows.normalized(embeddings)
    distance_m, w = weights(positions_m, influence) if influence else weights(positions_m)
    near = (distance_m < 15).double()
    return by_loops(Loops((x @ x.T).tolist(), distance_m.tolist(), w.tolist(), near.tolist()))


@every
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_batch(name, options, by_loops, data):
    size = data.draw(st.integers(0, 9))
    embeddings, positions_m = scene(size, seed=data.draw(st.integers(0, 10**6)))
    copied = data.draw(st.lists(st.integers(0, 8), max_size=3))
    for row in copied:
        if row + 1 < size:
            embeddings[row + 1] = embeddings[row]
    embeddings.requires_grad_()
    value = build(name, **options)(embeddings, batch_at(positions_m)).loss
    value.backward()
    assert value.item() == pytest.approx(
        expected(by_loops, embeddings.detach(), positions_m), abs=1e-7
    )
    assert torch.isfinite(embeddings.grad).all()


@every
def test_blocks_of_rows_change_nothing(name, options, by_loops, monkeypatch):
    embeddings, positions_m = scene(13)
    results = []
    for pairs in (rows.BLOCK_PAIRS, 26, 1):
        for module in ("rows", "cosent", "distance_triplet", "ranking"):
            monkeypatch.setattr(f"mlcore_graded.{module}.BLOCK_PAIRS", pairs)
        monkeypatch.setattr("mlcore_graded.sorted_sums._BLOCK", pairs)
        leaf = embeddings.clone().requires_grad_()
        loss = build(name, **options)(leaf, batch_at(positions_m)).loss
        loss.backward()
        results.append((loss.detach(), leaf.grad))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-10, atol=1e-12)


@every
def test_gradient(name, options, by_loops):
    embeddings, positions_m = scene(7, seed=3)
    loss = build(name, **options)
    leaf = embeddings.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, batch_at(positions_m)).loss, [leaf])


@pytest.mark.parametrize("influence", [Linear(), Tanh(), Step()], ids=str)
@every
def test_any_influence(name, options, by_loops, influence):
    embeddings, positions_m = scene(8, seed=5)
    value = build(name, influence, **options)(embeddings, batch_at(positions_m)).loss
    assert value.item() == pytest.approx(
        expected(by_loops, embeddings, positions_m, influence), abs=1e-10
    )


@pytest.mark.parametrize(
    ("apart_m", "terms"), [(14.999999999, 1), (15.0, 0), (15.000000001, 0)]
)
@pytest.mark.parametrize("name", ["smooth-ap", "recall-at-k"])
def test_the_near_radius_is_exclusive_and_decided_in_float64(name, apart_m, terms):
    positions_m = torch.tensor([[0.0, 0.0], [apart_m, 0.0]], dtype=torch.float64)
    output = build(name)(torch.eye(2), batch_at(positions_m))
    assert output.stats["terms"] == 2 * terms


def test_an_image_on_a_band_edge_belongs_to_the_next_band():
    positions_m = torch.tensor([[0.0, 0.0], [5.0, 0.0], [30.0, 0.0]], dtype=torch.float64)
    loss = build("rince", bands_m=(5.0, 10.0), temperatures=(0.1, 0.2))
    x = torch.eye(3, dtype=torch.float64)
    # Only the band [5, 10) holds a positive: of the first two images, against one beyond.
    assert loss(x, batch_at(positions_m)).loss.item() == pytest.approx(
        torch.log(torch.tensor(2.0)).item()
    )


@every
def test_coincident_embeddings_are_pulled_by_nothing_infinite(name, options, by_loops):
    _, positions_m = scene(6, seed=1)
    leaf = torch.ones(6, 4, requires_grad=True)
    build(name, **options)(leaf, batch_at(positions_m)).loss.backward()
    assert torch.isfinite(leaf.grad).all()


def test_what_is_not_finite_is_not_hidden():
    embeddings, positions_m = scene(5)
    embeddings[2] = float("nan")
    for name, options, _ in EVERY:
        assert build(name, **options)(embeddings, batch_at(positions_m)).loss.isnan(), name


@settings(max_examples=50, deadline=None)
@given(keys=st.lists(st.integers(0, 4), min_size=1, max_size=12), block=st.integers(1, 5))
def test_sums_before_runs_of_equal_keys_across_blocks(keys, block):
    keys.sort()
    values = [float(place + 1) for place in range(len(keys))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_sums, "_BLOCK", block)
        found = sorted_sums.sum_before(torch.tensor(values), torch.tensor(keys))
    brute_force = [
        sum(value for value, other in zip(values, keys, strict=True) if other < key)
        for key in keys
    ]
    assert found.tolist() == brute_force
