"""Options that others leave without effect are refused; files may list them."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest

from mlcore.errors import ConfigError
from mlcore.experiment import assemble
from mlcore.options import (
    parse_run,
    read_argv,
    refuse_unused,
    require_effect,
    resolve_run,
    run_to_toml,
)
from mlcore.options.effects import _OF_SCHEME
from mlcore.options.engine import SamplingOptions
from mlcore.registry.discovery import Registry
from mlcore.training.effects import unused_options

PLACES = "--sampling.scheme places"
UNEVALUATED = "--training.evaluate false"


@pytest.fixture(scope="module")
def shipped(module_synthetic_plugin):
    return Registry.discover()


def accept(words, registry):
    given = read_argv(words.split())
    config = resolve_run(given, registry)
    require_effect([config], given)
    return config


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (f"{PLACES} --sampling.near_per_tuple 3", "scheme places; choose tuples"),
        (f"{PLACES} --sampling.far_per_tuple 3", "scheme places; choose tuples"),
        (f"{PLACES} --sampling.tuples_per_batch 2", "scheme places; choose tuples"),
        (f"{PLACES} --sampling.location_spacing_m 2", "scheme places; choose tuples"),
        (f"{PLACES} --sampling.hard_pool 9", "scheme places; choose tuples"),
        ("--sampling.places_per_batch 9", "scheme tuples; choose places"),
        ("--sampling.images_per_place 9", "scheme tuples; choose places"),
        ("--sampling.hard_features live", "hard_per_tuple 0; choose at least 1"),
        ("--sampling.place_cell_m 9", "--loss soft-contrastive, which has no use for classes"),
        ("--sampling.balance datasets", "one data set; give --dataset A,B"),
        (f"{UNEVALUATED} --evaluation.recall_at 2", "--training.evaluate false"),
        (f"{UNEVALUATED} --evaluation.thresholds_m 2", "--training.evaluate false"),
        (f"{UNEVALUATED} --evaluation.spacing_m 2", "--training.evaluate false"),
        (f"{UNEVALUATED} --evaluation.baselines false", "--training.evaluate false"),
        (
            f"{UNEVALUATED} --training.validate_every 2 --evaluation.ndcg_at 2",
            "--training.evaluate false",
        ),
        ("--evaluation.whitening none --evaluation.dimensions 3", "choose train or references"),
        ("--model.feature_cache_mib 3", "--model.trainable_blocks all"),
        ("--model.trainable_blocks 2 --model.feature_cache_mib 3", "trainable_blocks 2"),
        ("--model.trainable_blocks none --training.backbone_rate 0.5", "trainable_blocks none"),
        ("--model.trainable_blocks none --training.layer_decay 0.5", "trainable_blocks none"),
        ("--model.trainable_blocks 1 --training.layer_decay 0.5", "trainable_blocks 1"),
        ("--model pixels --training.backbone_rate 0.5", "--model pixels"),
        ("--model.input_height_px 48 --model.longest_side_px 99", "--model.input_height_px"),
        ("--model.num_clusters 9", "--model.pooling gem; --model.pooling netvlad or salad"),
        ("--model vgg16 --model.pooling gem --model.num_clusters 9", "--model.pooling gem"),
    ],
)
def test_what_does_nothing_is_refused(shipped, words, reason):
    with pytest.raises(ConfigError) as caught:
        accept(words, shipped)
    refused = words.split()[-2]
    assert str(caught.value).startswith(f"{refused} has no effect with ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        f"{PLACES} --sampling.places_per_batch 9 --sampling.place_cell_m 9",
        "--loss pml-proxy-anchor --sampling.place_cell_m 9",
        "--dataset synthetic,streets --sampling.balance datasets",
        f"{UNEVALUATED} --evaluation.whitening train --evaluation.dimensions 3",
        f"{UNEVALUATED} --evaluation.batch_size 3",
        f"{UNEVALUATED} --training.validate_every 2 --evaluation.auc_limits_m 2",
        "--model.trainable_blocks none --model.feature_cache_mib 3",
        "--model.trainable_blocks 2 --training.layer_decay 0.5 --training.backbone_rate 0.5",
        "--model.pooling netvlad --model.num_clusters 9",
        "--model.pooling salad --model.num_clusters 9",
    ],
)
def test_what_does_something_is_accepted(shipped, words):
    flag, value = words.split()[-2:]
    written = run_to_toml(accept(words, shipped))
    name = flag.rpartition(".")[2]
    assert re.search(rf"^{name} = [\[\s\"]*{value}\b", written, re.MULTILINE)


@pytest.mark.parametrize("words", ["", PLACES, UNEVALUATED, "--model.trainable_blocks none"])
def test_the_file_of_a_run_lists_every_option(shipped, tmp_path, words):
    file = tmp_path / "config.toml"
    file.write_text(run_to_toml(accept(words, shipped)))
    assert run_to_toml(accept(f"--config {file}", shipped)) == file.read_text()


def test_a_comparison_needs_one_row_that_uses_an_option(shipped):
    given = read_argv(["--sampling.near_per_tuple", "3"])
    rows = [parse_run(words.split(), shipped) for words in (PLACES, "")]
    require_effect(rows, given)
    with pytest.raises(ConfigError, match="near_per_tuple has no effect"):
        require_effect(rows[:1], given)


def test_every_scheme_says_what_it_reads():
    schemes = {o.name: o for o in fields(SamplingOptions)}["scheme"]
    assert schemes.default in _OF_SCHEME
    known = {field.name for field in fields(SamplingOptions)}
    assert all(names <= known for names in _OF_SCHEME.values())


FROZEN = "--backbone resnet18 --model.weights none --model.trainable_blocks none"


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        ("", {"training.batch_norm"}),
        ("--sampling.balance regions", {"sampling.balance", "training.batch_norm"}),
        ("--backbone resnet18 --model.weights none", set()),
        (f"{FROZEN} --model.embedding_dim 8", {"training.batch_norm"}),
    ],
)
def test_what_images_and_network_do_not_use(shipped, words, unused):
    config = parse_run(["--dataset", "synthetic", *words.split()], shipped)
    found = unused_options(assemble(config))
    assert {*found} == unused
    given = read_argv(["--training.max_steps", "3", "--training.batch_norm", "frozen"])
    if "training.batch_norm" in unused:
        with pytest.raises(ConfigError, match="batch_norm has no effect with --model"):
            refuse_unused([found], given)
    else:
        refuse_unused([found], given)


def test_places_of_the_data_set_need_no_cells(shipped):
    config = parse_run(["--dataset", "synthetic", "--model.width", "8"], shipped)
    experiment = assemble(config)
    images = experiment.planner.images
    experiment.planner.images = replace(images, place=images.index, headings_rad=None)
    assert {"sampling.place_cell_m", "sampling.near_heading_limit_deg"} <= {
        *unused_options(experiment)
    }
