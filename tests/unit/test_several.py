"""Several data sets as one: indices, tables, regions, and what of them is drawn and shown."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlcore.data.several import SeveralDatasets
from mlcore.errors import ConfigError, DataError
from mlcore.evaluation.measures import summaries
from mlcore.experiment import assemble, open_dataset
from mlcore.options import parse_run, read_argv, reopen_run, run_from_toml, run_to_toml
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import HasImageFiles, Role, Split
from mlcore.registry.discovery import Registry
from mlcore.sampling.planner import TuplePlanner
from tests.unit.test_evaluation import evaluate_split, table_of

OPTIONS = SamplingOptions(
    near_radius_m=10.0, far_radius_m=20.0, near_per_tuple=2, far_per_tuple=4
)
BOTH = ("--dataset", "synthetic,synthetic", "--dataset.2.radius_m", "40")
LAPS = 9 * 60


def twice(dataset):
    return SeveralDatasets({"a": dataset, "b": replace(dataset, radius_m=40.0)})


def test_images_keep_their_data_set(synthetic_dataset):
    both = twice(synthetic_dataset)
    assert both.image_name(7) == "a: synthetic/0007"
    assert both.image_name(LAPS + 7) == "b: synthetic/0007"
    assert torch.equal(both.load_image(LAPS + 7), synthetic_dataset.load_image(7))
    assert both.part_of(np.array([0, LAPS - 1, LAPS])).tolist() == [0, 0, 1]
    alone = synthetic_dataset.test
    assert len(both.test.references) == 2 * len(alone.references)
    assert both.test.references.index[:2].tolist() == alone.references.index[:2].tolist()
    assert (both.test.queries.index[120:] == alone.queries.index + LAPS).all()
    assert both.test.queries.conditions == ("a: sun", "a: night", "b: sun", "b: night")
    assert both.test.queries.condition[[0, 60, 120, 180]].tolist() == [0, 1, 2, 3]
    assert both.train.references.traversals == ("a", "b")


def test_each_data_set_is_a_region(synthetic_dataset):
    both = twice(synthetic_dataset)
    assert both.train.references.regions == both.test.queries.regions == ("a", "b")
    assert both.train.references.region.tolist() == [0] * 60 + [1] * 60


def test_regions_of_a_data_set_stay_apart(synthetic_dataset):
    parted = {}
    for name in ("train", "validation", "test"):
        split = getattr(synthetic_dataset, name)
        tables = (
            replace(table, region=np.arange(len(table)) % 2, regions=("x", "y"))
            for table in (split.references, split.queries)
        )
        parted[name] = Split(**dict(zip(("references", "queries"), tables, strict=True)))
    inner = replace(synthetic_dataset)
    for name, split in parted.items():
        setattr(inner, name, split)
    both = SeveralDatasets({"a": inner, "b": synthetic_dataset})
    assert both.train.references.regions == ("a: x", "a: y", "b")
    assert both.train.references.region[[0, 1, 60]].tolist() == [0, 1, 2]


def test_a_column_that_one_has_not_is_left_out_and_noted(synthetic_dataset):
    bare = replace(synthetic_dataset)
    for name in ("train", "validation", "test"):
        split = getattr(synthetic_dataset, name)
        references, queries = (
            replace(table, headings_rad=None) for table in (split.references, split.queries)
        )
        setattr(bare, name, Split(references=references, queries=queries))
    both = SeveralDatasets({"a": synthetic_dataset, "b": bare})
    assert both.train.references.headings_rad is None
    assert "headings are not used: some of the data sets have none" in both.notes


class NoTraining:
    def __init__(self, dataset):
        self.validation, self.test = dataset.validation, dataset.test
        self.fingerprint, self.notes = "x", ("hello",)

    @property
    def train(self):
        raise DataError("it trains nothing")


def test_a_data_set_without_training_images_is_in_the_test_alone(synthetic_dataset):
    both = SeveralDatasets({"a": synthetic_dataset, "b": NoTraining(synthetic_dataset)})
    assert len(both.train.references) == 60
    assert len(both.test.references) == 120
    assert {"b: hello", "no images in train: b"} <= set(both.notes)
    with pytest.raises(DataError, match="b: it trains nothing"):
        _ = SeveralDatasets({"b": NoTraining(synthetic_dataset)}).train


def test_what_all_offer_is_offered(synthetic_dataset):
    both = twice(synthetic_dataset)
    assert not isinstance(both, HasImageFiles)
    with pytest.raises(AttributeError):
        _ = both.times_s
    timed = [replace(synthetic_dataset) for _ in range(2)]
    for number, dataset in enumerate(timed):
        dataset.times_s = lambda index, number=number: index * 10.0 + number
    both = SeveralDatasets({"a": timed[0], "b": timed[1]})
    assert both.times_s(np.array([LAPS + 2, 1, LAPS])).tolist() == [21.0, 10.0, 1.0]


def test_it_can_be_pickled(synthetic_dataset):
    again = pickle.loads(pickle.dumps(twice(synthetic_dataset)))
    assert again.image_name(LAPS) == "b: synthetic/0000"
    assert again.fingerprint == twice(synthetic_dataset).fingerprint


def drawn(dataset, balance, num):
    options = replace(OPTIONS, balance=balance)
    planner = TuplePlanner(dataset.train, options, 0, part_of=getattr(dataset, "part_of", None))
    plans = [planner.plan(step) for step in range(num)]
    anchors = np.concatenate([plan.rows[plan.role == Role.ANCHOR] for plan in plans])
    return planner, Counter(dataset.part_of(planner.images.index[anchors]).tolist())


def test_data_sets_are_sampled_in_proportion_or_equally(synthetic_dataset):
    """The larger loop has twice the locations."""
    options = {"a": synthetic_dataset, "b": replace(synthetic_dataset, radius_m=20.0)}
    short = replace(synthetic_dataset)
    split = synthetic_dataset.train
    short.train = Split(references=split.references.take(slice(0, 20)), queries=split.queries)
    both = SeveralDatasets({**options, "b": short})
    planner, proportional = drawn(both, "locations", 80)
    assert planner.num_locations == 80
    assert proportional == {0: 60, 1: 20}
    planner, equal = drawn(both, "datasets", 80)
    assert equal == {0: 40, 1: 40}
    assert "datasets in turn, 2 of them with 60, 20 locations" in planner.notes
    assert drawn(both, "regions", 80)[1] == equal
    assert np.array_equal(
        planner.plan(31).rows, pickle.loads(pickle.dumps(planner)).plan(31).rows
    )


def test_every_location_of_a_data_set_is_visited_in_turn(synthetic_dataset):
    both = twice(synthetic_dataset)
    planner = TuplePlanner(
        both.train, replace(OPTIONS, balance="datasets"), 0, part_of=both.part_of
    )
    visits = [planner._visits.location(number) for number in range(2 * 60)]
    assert Counter(visits) == Counter(range(120))
    assert visits[::2] != [planner._visits.location(number) for number in range(120, 240, 2)]


def test_results_have_a_block_for_each_data_set():
    conditions = ("a: sun", "a: night", "b")
    queries = replace(table_of([[0.0, 0], [1, 0], [2, 0]], [0, 1, 2]), conditions=conditions)
    references = replace(table_of([[0.0, 0], [30, 0]]), conditions=conditions)
    ones = np.eye(2, dtype=np.float32)
    found = evaluate_split(
        ones,
        ones[[0, 1, 0]],
        Split(references=references, queries=queries),
        parse_run([], Registry.discover()).evaluation,
        name="model",
    )
    assert found.sections == ("a: sun", "a: night", "a", "b", None)
    assert found.num_queries("a") == 2
    assert found.accuracy(5.0, "a") == 0.5
    assert summaries(found)["conditions"]["a"]["num_queries"] == 2


def test_options_of_each_and_of_all(synthetic_plugin, tmp_path):
    registry = Registry.discover()
    config = parse_run([*BOTH, "--dataset.broken", "3"], registry)
    assert [part.options.radius_m for part in config.dataset.options.parts] == [20.0, 40.0]
    assert [part.options.broken for part in config.dataset.options.parts] == [(3,), (3,)]
    file = tmp_path / "config.toml"
    file.write_text(run_to_toml(config))
    assert file.read_text().count("[[dataset]]") == 2
    assert run_from_toml(file, registry) == config
    assert isinstance(open_dataset(config), SeveralDatasets)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--dataset", "synthetic,nowhere"], "unknown dataset 'nowhere'"),
        (["--dataset", "synthetic,"], "--dataset needs the name of a dataset"),
        ([*BOTH, "--dataset.3.broken", "1"], "there is no data set 3; the run has 2, numbered"),
        ([*BOTH, "--dataset.2.radius", "1"], "--dataset.2.radius"),
        ([*BOTH, "--dataset.1.radius_m", "x"], "--dataset.1.radius_m"),
        (
            ["--dataset", "synthetic,images,synthetic"],
            r"sets 1 and 3 are both 'synthetic' with .*--dataset.1.radius_m A --dataset.3.radi",
        ),
        (
            ["--dataset", "images,images", "--dataset.root", "here"],
            r"such as --dataset.1.root A --dataset.2.root B",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(synthetic_plugin, argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_run(argv, Registry.discover())


PHOTOS = Path("photos").absolute()
KEPT = (
    *("--dataset", "synthetic,images,synthetic", "--dataset.2.root", str(PHOTOS)),
    *("--dataset.1.radius_m", "40", "--dataset.3.radius_m", "60", "--dataset.3.broken", "7"),
)


@pytest.mark.parametrize(
    ("argv", "names", "values"),
    [
        (["--dataset", "images"], ["images"], {"root": PHOTOS}),
        (["--dataset", "synthetic 2"], ["synthetic"], {"radius_m": 60.0, "broken": (7,)}),
        (
            ["--dataset", "synthetic 1", "--dataset.broken", "2"],
            ["synthetic"],
            {"broken": (2,)},
        ),
        (
            ["--dataset", "images,synthetic 2"],
            ["images", "synthetic"],
            {"root": PHOTOS},
        ),
        (["--dataset", "streets"], ["streets"], {"town_seed": 0}),
    ],
)
def test_a_data_set_of_the_run_keeps_its_options(
    synthetic_plugin, tmp_path, argv, names, values
):
    registry = Registry.discover()
    file = tmp_path / "config.toml"
    file.write_text(run_to_toml(parse_run(KEPT, registry)))
    config = reopen_run(file, read_argv(argv), registry)
    parts = getattr(config.dataset.options, "parts", (config.dataset,))
    assert [part.name for part in parts] == names
    assert {name: getattr(parts[0].options, name) for name in values} == values
    if len(parts) > 1:
        assert parts[1].options.radius_m == 60.0


def test_one_data_set_of_several_of_a_name_is_chosen_by_its_label(synthetic_plugin, tmp_path):
    registry = Registry.discover()
    file = tmp_path / "config.toml"
    file.write_text(run_to_toml(parse_run(KEPT, registry)))
    with pytest.raises(ConfigError, match="has 2 data sets 'synthetic'; choose one by its lab"):
        reopen_run(file, read_argv(["--dataset", "synthetic"]), registry)


def test_a_table_without_a_name_is_refused(synthetic_plugin, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[[dataset]]\nradius_m = 3\n")
    with pytest.raises(ConfigError, match=r"\[\[dataset\]\] number 1 must be a table with the"):
        parse_run(["--config", str(file)], Registry.discover())


def test_one_that_fails_beside_one_that_opens_is_named(synthetic_plugin, tmp_path):
    argv = ["--dataset", "synthetic,images", "--dataset.2.root", str(tmp_path / "gone")]
    config = parse_run(argv, Registry.discover())
    with pytest.raises(DataError, match=r"^data set 'images': dataset.root is .*gone, which"):
        open_dataset(config)


def test_a_batch_of_both_has_both_regions(synthetic_plugin):
    argv = [*BOTH, "--sampling.tuples_per_batch", "6", "--sampling.balance", "datasets"]
    argv += ["--model.width", "8", "--model.longest_side_px", "64"]
    experiment = assemble(parse_run(argv, Registry.discover()))
    batch = experiment.batches[0].batch
    anchors = batch.role == Role.ANCHOR
    assert sorted(batch.region[anchors].tolist()) == [0, 0, 0, 1, 1, 1]
