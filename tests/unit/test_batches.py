"""Batches by step: the same with any number of workers, from any step on."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from mlcore.errors import DataError
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import Role
from mlcore.sampling.batches import TrainingBatch, TrainingBatches, TrainingLoader
from mlcore.sampling.planner import TuplePlanner

OPTIONS = SamplingOptions(
    tuples_per_batch=3,
    near_per_tuple=2,
    far_per_tuple=2,
    near_radius_m=5.0,
    far_radius_m=10.0,
)


def make_batches(dataset, options: SamplingOptions = OPTIONS, **more) -> TrainingBatches:
    planner = TuplePlanner(dataset.train, options, seed=5)
    settings = {"input_size": (dataset.height, 64), "seed": 6} | more
    return TrainingBatches(dataset, planner, **settings)


def make_loader(dataset, **more) -> TrainingLoader:
    settings = {"start_step": 0, "num_steps": 5} | more
    return TrainingLoader(make_batches(dataset), **settings)


def assert_same(first: TrainingBatch, second: TrainingBatch) -> None:
    assert torch.equal(first.images, second.images)
    assert first.skipped == second.skipped
    for field in fields(first.batch):
        column, other = getattr(first.batch, field.name), getattr(second.batch, field.name)
        is_column = isinstance(column, torch.Tensor)
        assert torch.equal(column, other) if is_column else column == other


class WithExtras:
    """The synthetic data set, which also knows a number for each image."""

    def __init__(self, dataset) -> None:
        self._dataset = dataset

    def __getattr__(self, name: str):
        return getattr(self._dataset, name)

    def extras(self, index: np.ndarray) -> dict[str, np.ndarray]:
        return {"overlap": index[:, None] / 100}


def test_rows_of_images_and_of_geometry_belong_together(synthetic_dataset):
    batches = make_batches(synthetic_dataset, augment=False)
    images, batch, skipped, num_letterboxed, *_ = batches[3]
    assert images.shape == (15, 3, 32, 64)
    assert images.dtype == torch.uint8
    assert (skipped, num_letterboxed) == ((), 0)
    train = synthetic_dataset.train
    index = np.concatenate([train.references.index, train.queries.index])
    positions = np.concatenate([train.references.positions_m, train.queries.positions_m])
    headings = np.concatenate([train.references.headings_rad, train.queries.headings_rad])
    for row, number in enumerate(batch.index.tolist()):
        at = int(np.flatnonzero(index == number)[0])
        assert torch.equal(images[row], synthetic_dataset.load_image(number))
        assert batch.positions_m[row].tolist() == positions[at].tolist()
        assert batch.headings_rad[row] == headings[at]
    assert batch.positions_m.dtype == batch.headings_rad.dtype == torch.float64
    for column in (batch.tuple_id, batch.role, batch.place_id, batch.index):
        assert column.dtype == torch.int64
    assert batch.tuple_id.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    cell = np.floor(batch.positions_m.numpy() / OPTIONS.place_cell_m)
    same_cell = (cell[:, None] == cell[None]).all(axis=2)
    same_place = (batch.place_id[:, None] == batch.place_id[None]).numpy()
    assert np.array_equal(same_cell, same_place)


def test_augmentation_changes_the_pixels_and_nothing_else(synthetic_dataset):
    plain = make_batches(synthetic_dataset, augment=False)[2]
    varied = make_batches(synthetic_dataset)[2]
    assert torch.equal(plain.batch.index, varied.batch.index)
    assert plain.images.shape == varied.images.shape
    changed = (plain.images != varied.images).flatten(1).any(dim=1)
    assert changed.all()
    assert not torch.equal(make_batches(synthetic_dataset, seed=7)[2].images, varied.images)


def test_the_number_of_workers_changes_nothing(synthetic_dataset):
    alone = list(make_loader(synthetic_dataset))
    together = list(make_loader(synthetic_dataset, num_workers=2))
    assert len(alone) == len(together) == 5
    for first, second in zip(alone, together, strict=True):
        assert_same(first, second)


def test_a_loader_starts_at_the_step_it_is_told(synthetic_dataset):
    whole = list(make_loader(synthetic_dataset))
    rest = list(make_loader(synthetic_dataset, start_step=3))
    assert len(rest) == 2
    for first, second in zip(whole[3:], rest, strict=True):
        assert_same(first, second)


def test_windows_with_hard_images_end_where_they_are_planned_anew(synthetic_dataset):
    hard = replace(OPTIONS, hard_per_tuple=1, hard_refresh=8)
    batches = make_batches(synthetic_dataset, hard)
    assert batches.steps_per_window == 3  # 8 tuples, 3 per batch
    loader = TrainingLoader(batches, start_step=4, num_steps=10)
    assert list(loader._windows()) == [range(4, 6), range(6, 9), range(9, 10)]


def test_a_loader_leaves_the_main_generator_alone(synthetic_dataset):
    before = torch.get_rng_state()
    list(make_loader(synthetic_dataset))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_process_that_gets_them_pickled_makes_the_same_batches(synthetic_dataset):
    batches = make_batches(synthetic_dataset)
    assert_same(pickle.loads(pickle.dumps(batches))[4], batches[4])


def test_images_of_another_aspect_are_counted(synthetic_dataset):
    item = make_batches(synthetic_dataset, input_size=(32, 32))[0]
    assert item.images.shape == (15, 3, 32, 32)
    assert item.num_letterboxed == 15
    assert make_batches(synthetic_dataset, input_size=(16, 32))[0].num_letterboxed == 0


def test_what_a_data_set_supplies_becomes_extras(synthetic_dataset):
    batch = make_batches(WithExtras(synthetic_dataset))[0].batch
    assert set(batch.extras) == {"overlap"}
    assert torch.equal(batch.extras["overlap"], batch.index[:, None].double() / 100)


def test_without_headings(synthetic_dataset):
    train = synthetic_dataset.train
    synthetic_dataset.train = replace(
        train,
        references=replace(train.references, headings_rad=None),
        queries=replace(train.queries, headings_rad=None),
    )
    assert make_batches(synthetic_dataset)[0].batch.headings_rad is None


def test_an_unreadable_image_stops_the_run_and_is_named(synthetic_dataset):
    batches = make_batches(synthetic_dataset)
    broken = int(batches[1].batch.index[4])
    synthetic_dataset.broken = frozenset([broken])
    with pytest.raises(DataError, match=f"synthetic/{broken:04d} cannot be decoded"):
        batches[1]


def test_an_unreadable_image_is_left_out_where_that_is_asked_for(synthetic_dataset):
    batches = make_batches(synthetic_dataset, skip_unreadable=True, augment=False)
    whole = batches[1]
    row = int(torch.nonzero(whole.batch.role == Role.FAR)[0])
    broken = int(whole.batch.index[row])
    synthetic_dataset.broken = frozenset([broken])
    rest = batches[1]
    kept = whole.batch.index != broken
    assert_same(
        rest,
        whole._replace(
            images=whole.images[kept],
            batch=whole.batch.take(kept),
            skipped=tuple([synthetic_dataset.image_name(broken)] * int((~kept).sum())),
        ),
    )


def test_a_tuple_goes_with_its_anchor_and_tuples_stay_numbered(synthetic_dataset):
    batches = make_batches(synthetic_dataset, skip_unreadable=True)
    whole = batches[0].batch
    anchors = whole.index[whole.role == Role.ANCHOR]
    assert (whole.index == anchors[1]).sum() == 1
    synthetic_dataset.broken = frozenset([int(anchors[1])])
    rest = batches[0]
    kept = whole.tuple_id != 1
    assert torch.equal(rest.batch.index, whole.index[kept])
    assert rest.batch.tuple_id.tolist() == [0] * 5 + [1] * 5
    assert rest.skipped == (synthetic_dataset.image_name(int(anchors[1])),)


def test_a_batch_of_which_no_plan_can_be_read(synthetic_dataset):
    batches = make_batches(synthetic_dataset, skip_unreadable=True)
    synthetic_dataset.broken = frozenset(range(1000))
    message = "none of 100 plans of step 0 has an anchor that can be read"
    with pytest.raises(DataError, match=message):
        batches[0]


def test_the_hundredth_plan_of_a_step_is_the_last(synthetic_dataset):
    batches = make_batches(synthetic_dataset, skip_unreadable=True)
    synthetic_dataset.broken = frozenset(range(1000))
    assert batches.is_lost(batches.share(0, 0, 1, attempt=98), [])
    with pytest.raises(DataError, match="none of 100 plans"):
        batches.is_lost(batches.share(0, 0, 1, attempt=99), [])


ONE_TUPLE = replace(OPTIONS, tuples_per_batch=1)


def test_another_tuple_takes_the_place_of_one_without_its_anchor(synthetic_dataset):
    batches = make_batches(synthetic_dataset, ONE_TUPLE, skip_unreadable=True)
    whole = batches[4]
    (anchor,) = whole.batch.index[whole.batch.role == Role.ANCHOR].tolist()
    synthetic_dataset.broken = frozenset([anchor])
    other = batches[4]
    assert_same(other, batches[4])  # a function of seed and step
    assert other.attempt == 1
    assert other.skipped[0] == synthetic_dataset.image_name(anchor)
    assert anchor not in other.batch.index.tolist()
    assert other.batch.role.tolist()[0] == Role.ANCHOR
    assert len(other.batch) == len(whole.batch)
    assert not torch.equal(other.batch.index, whole.batch.index)


def test_most_images_may_be_unreadable(synthetic_dataset):
    batches = make_batches(synthetic_dataset, ONE_TUPLE, skip_unreadable=True)
    synthetic_dataset.broken = frozenset(n for n in range(180) if n % 8)
    for step in range(5):
        batch = batches[step]
        assert len(batch.batch) == len(batch.images) >= 1
        assert not set(batch.batch.index.tolist()) & synthetic_dataset.broken


def test_processes_replace_a_lost_batch_by_the_same_one(synthetic_dataset):
    """Each loads its share of the next plan; together they are the batch of one process."""
    batches = make_batches(synthetic_dataset, ONE_TUPLE, skip_unreadable=True)
    whole = batches[4].batch
    synthetic_dataset.broken = frozenset(whole.index[whole.role == Role.ANCHOR].tolist())
    alone = batches[4]
    shares = [batches.share(4, rank, 2) for rank in range(2)]
    unreadable = [share.unreadable.tolist() for share in shares]
    assert batches.is_lost(shares[0], unreadable[1])
    assert batches.is_lost(shares[1], unreadable[0])
    again = [batches.share(4, rank, 2, attempt=1) for rank in range(2)]
    assert torch.equal(torch.cat([share.images for share in again]), alone.images)
    assert torch.equal(again[0].batch.index, alone.batch.index)
