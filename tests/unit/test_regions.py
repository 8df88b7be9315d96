"""Two cities whose positions have equal numbers, in sampling, batches, results and pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.data.positions import PositionIndex, apart_m, distances_m
from mlcore.data.soundness import check_opened
from mlcore.evaluation.documents import from_document, to_document
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.measures import metres
from mlcore.factories import BuildContext
from mlcore.geometry import NearFar, between_m
from mlcore.options.engine import EvaluationOptions, SamplingOptions
from mlcore.protocols import Batch, PlaceTable, Split
from mlcore.reporting.figures.positions import side_by_side
from mlcore.sampling.planner import TuplePlanner
from mlcore.sampling.training_images import location_rows, place_ids

CITIES = ("Alton", "Bedale")
OPTIONS = SamplingOptions(
    tuples_per_batch=100,
    near_radius_m=10.0,
    far_radius_m=30.0,
    near_per_tuple=6,
    far_per_tuple=6,
    location_spacing_m=5.0,
)


def table_of(along_m, region, names=CITIES):
    size = len(along_m)
    return PlaceTable(
        index=np.arange(size),
        positions_m=np.stack([np.asarray(along_m, float), np.zeros(size)], axis=1),
        traversal=np.zeros(size, np.int64),
        traversals=("only",),
        condition=np.zeros(size, np.int64),
        conditions=("all",),
        region=None if region is None else np.asarray(region),
        regions=() if region is None else names,
    )


def two_cities(num=400):
    """Return one street in each city, with equal numbers, their images in turns."""
    along_m = np.repeat(np.arange(num) * 1.0, 2)
    return table_of(along_m, np.arange(2 * num) % 2)


def split_of(references, queries=None):
    return Split(
        references=references, queries=references.take(slice(0)) if queries is None else queries
    )


def one_city(table, code):
    return replace(table.take(table.region == code), region=None, regions=())


@pytest.mark.parametrize("num_pairs", [24_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_no_near_pair_crosses_regions(num_pairs):
    planner = TuplePlanner(split_of(two_cities()), OPTIONS, 3)
    city = planner.images.region
    near = far = far_across = 0
    for step in range(-(-num_pairs // 1200)):
        plan = planner.plan(step)
        anchor = plan.rows[plan.role == 0][plan.tuple_id]
        across = city[plan.rows] != city[anchor]
        assert not across[plan.role == 1].any()
        near += int((plan.role == 1).sum())
        far += int((plan.role == 2).sum())
        far_across += int(across[plan.role == 2].sum())
    assert near + far > 0.99 * num_pairs
    assert 0.4 < far_across / far < 0.6  # another city is as far as any place


def test_each_region_has_locations_and_places_of_its_own():
    table = two_cities(100)
    both = TuplePlanner(split_of(table), OPTIONS, 0)
    alone = TuplePlanner(split_of(one_city(table, 0)), OPTIONS, 0)
    assert both.num_locations == 2 * alone.num_locations == 40
    assert both.num_places == 2 * alone.num_places
    assert len(location_rows(table, 5.0)) == 40


def test_one_region_has_the_same_tuples_as_none():
    named = table_of(np.arange(300.0), np.zeros(300, np.int64), ("only",))
    plain = one_city(named, 0)
    for step in range(3):
        rows = [TuplePlanner(split_of(t), OPTIONS, 5).plan(step).rows for t in (named, plain)]
        assert np.array_equal(*rows)
    assert np.array_equal(
        place_ids(named.positions_m, 7.0, named.region), place_ids(plain.positions_m, 7.0)
    )


@given(seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_searches_are_those_of_loops(seed):
    generator = np.random.default_rng(seed)
    positions = generator.integers(0, 30, (60, 2)) * 0.5 + [620_000.0, 5_735_000.0]
    region = generator.integers(0, 4, 60)
    apart = apart_m(positions, region)
    distance = distances_m(apart[:, None], apart)
    same = region[:, None] == region
    expected = np.linalg.norm(positions[:, None] - positions, axis=-1)
    assert np.array_equal(distance[same], expected[same])
    assert (distance[~same] == np.inf).all()
    index = PositionIndex(apart)
    for row in range(5):
        found = index.within(apart[row], 4.0)
        assert found.tolist() == np.flatnonzero(same[row] & (expected[row] <= 4.0)).tolist()


def test_one_region_costs_nothing():
    positions = np.zeros((3, 2))
    assert apart_m(positions, None) is positions


def batch_of(along_m, region):
    size = len(along_m)
    zeros = torch.zeros(size, dtype=torch.int64)
    along = torch.tensor(along_m, dtype=torch.float64)
    return Batch(
        positions_m=torch.stack([along, torch.zeros_like(along)], dim=1),
        headings_rad=None,
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=zeros,
        region=None if region is None else torch.tensor(region),
    )


def test_miners_find_no_near_pair_across_regions():
    batch = batch_of([0.0, 1.0, 0.0, 50.0], [0, 0, 1, 1])
    relation = NearFar.resolve(BuildContext(near_radius_m=10.0, far_radius_m=20.0))
    near, far = relation(batch)
    assert near.nonzero().tolist() == [[0, 1], [1, 0]]
    assert far[0].tolist() == [False, False, True, True]
    assert between_m(batch)[0].tolist() == [0.0, 1.0, torch.inf, torch.inf]
    assert between_m(batch, torch.tensor([2]), torch.tensor([3])).tolist() == [50.0]


def test_a_batch_keeps_its_regions():
    batch = batch_of([0.0, 1.0, 2.0], [4, 5, 6])
    taken = batch.take(torch.tensor([2, 0])).to("cpu")
    assert taken.region is not None
    assert taken.region.tolist() == [6, 4]


def test_tables_of_one_split_have_the_same_regions():
    table = two_cities(5)
    with pytest.raises(
        ValueError, match=r"references have regions \('Alton', 'Bedale'\), queries \(\)"
    ):
        Split(references=table, queries=one_city(table, 0))
    with pytest.raises(ValueError, match="region has 3 rows, index has 2"):
        table_of([0.0, 1.0], [0, 0, 1])


def evaluated(queries_region=(0, 1, 1), references_region=(0, 1)):
    """Three queries at 0, 3 and 0 m of a city; references at 1 m of each, which look alike."""
    references = table_of([1.0, 1.0], references_region)
    queries = table_of([0.0, 3.0, 0.0], queries_region)
    # The first two queries retrieve their own city, the third the other one.
    return evaluate_split(
        np.array([[1.0, 0.0], [0.0, 1.0]], np.float32),
        np.array([[1.0, 0.1], [0.1, 1.0], [1.0, 0.1]], np.float32),
        Split(references=references, queries=queries),
        EvaluationOptions(recall_at=(1, 2), order_limits_m=(25.0,)),
        name="model",
    )


def test_accuracy_never_counts_a_hit_in_the_other_city():
    found = evaluated()
    assert found.distance_m.tolist() == [1.0, 2.0, np.inf]
    assert found.nearest_m.tolist() == [1.0, 2.0, 1.0]
    assert found.accuracy(25.0) == pytest.approx(2 / 3)
    assert found.upper_bound(25.0) == 1.0
    assert found.recall(1) == pytest.approx(2 / 3)
    assert found.recall(2) == 1.0
    assert found.nearest_first() == pytest.approx(2 / 3)
    assert found.area(10.0) == pytest.approx((0.9 + 0.8 + 0.0) / 3)
    assert found.median_error() == 2.0
    assert found.order_accuracy(25.0) is None  # the two references are never compared


def test_a_city_without_references_has_no_bound():
    found = evaluated(queries_region=(0, 1, 1), references_region=(0, 0))
    assert found.nearest_m.tolist() == [1.0, np.inf, np.inf]
    assert found.upper_bound(1e6) == pytest.approx(1 / 3)
    assert found.nearest_first() == pytest.approx(1 / 3)
    assert found.median_error() is None
    assert found.median_error_bound() is None


def test_results_are_plain_json_and_come_back():
    found = evaluated()
    text = json.dumps(to_document([found]), allow_nan=False)
    (again,) = from_document(json.loads(text))
    assert again.distance_m.tolist() == found.distance_m.tolist()
    assert metres(found.distance_m[2]) == "another region"


def test_regions_are_drawn_side_by_side():
    table = two_cities(3)
    references_m, queries_m = side_by_side(table, table.take(slice(0, 1)))
    assert references_m[:2].tolist() == [[0.0, 0.0], [pytest.approx(2.2), 0.0]]
    assert queries_m.tolist() == [[0.0, 0.0]]
    first, second = (references_m[table.region == code] for code in (0, 1))
    assert first[:, 0].max() < second[:, 0].min()
    assert np.array_equal(np.ptp(first, axis=0), np.ptp(second, axis=0))
    plain = one_city(table, 0)
    assert np.array_equal(side_by_side(plain)[0], plain.positions_m)


class Opened:
    notes = ()
    fingerprint = ""

    def __init__(self, table):
        self.train, self.validation = split_of(table), split_of(table.take(slice(0)))
        self.test = split_of(table.take(slice(0)))

    def image_name(self, index):
        return f"image {index}"


def test_far_rows_are_found_in_each_region():
    along_m = np.concatenate([np.arange(100.0), 1e6 + np.arange(100.0), [5e5]])
    region = np.repeat([0, 1, 1], [100, 100, 1])
    (finding,) = check_opened(Opened(table_of(along_m, region)), near_radius_m=10.0)
    assert (finding.name, finding.count, finding.examples) == ("far-rows", 1, ("image 200",))
