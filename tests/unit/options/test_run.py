from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from mlcore.errors import ConfigError, UnknownNameError
from mlcore.options import (
    Command,
    parse_run,
    read_argv,
    run_from_toml,
    run_help,
    run_to_toml,
)
from mlcore.options.engine import SamplingOptions
from mlcore.registry.discovery import Plugin, Registry


@pytest.fixture
def toml(tmp_path):
    def write(text: str, name: str = "run.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults(registry):
    config = parse_run([], registry)
    assert config.seed == 0
    assert (config.loss.name, config.dataset.name) == ("soft", "streets")
    assert config.influence.name == "sigmoid"
    assert config.miner is None
    assert config.sampling == SamplingOptions(near_radius_m=7.0, far_radius_m=9.0)


def test_options_reach_the_chosen_components(registry):
    argv = "--seed 3 --loss soft --loss.beta 40 --influence.cutoff_m=20 --training.max_steps 7"
    config = parse_run(argv.split(), registry)
    assert config.seed == 3
    assert config.loss.options.beta == 40.0
    assert config.influence.options.cutoff_m == 20.0
    assert config.training.max_steps == 7


def test_an_alias_and_a_plugin_name_choose_too(registry):
    for name in ("soft", "proposed", "demo:soft", "demo:proposed"):
        assert parse_run(["--loss.name", name], registry).loss.name == "soft"


def test_the_name_of_a_contested_component_says_whose_it_is(registry):
    ours = registry.plugins[0]
    rival = Plugin(
        name="rival", distribution="r", version="1", status="ok", factories=(ours.factories[0],)
    )
    both = Registry([ours, rival], [f for _, f in registry._provided if _ == "mlcore"])
    with pytest.raises(ConfigError, match="'demo:soft' or 'rival:soft'"):
        parse_run(["--loss", "soft"], both)


@pytest.mark.parametrize(
    ("loss", "miner"),
    [("triplet", "geometric-triplets"), ("contrastive", "geometric-pairs"), ("proxy", None)],
)
def test_miner_by_loss(registry, loss, miner):
    config = parse_run(["--loss", loss], registry)
    assert (None if config.miner is None else config.miner.name) == miner
    assert config.influence is None


def test_triplets_serve_a_loss_of_pairs(registry):
    argv = ["--loss", "contrastive", "--miner", "geometric-triplets"]
    assert parse_run(argv, registry).miner.name == "geometric-triplets"


def test_order_of_sources(registry, toml):
    first = toml("seed = 1\n[loss]\nalpha = 3.0\nbeta = 40\n[sampling]\nnear_radius_m = 4\n")
    second = toml("[loss]\nbeta = 41.0\n", "second.toml")
    argv = ["--loss.beta", "42", "--config", str(first), "--config", str(second)]
    config = parse_run(argv, registry)
    assert (config.seed, config.loss.options.alpha, config.loss.options.beta) == (1, 3.0, 42.0)
    assert parse_run(argv[2:], registry).loss.options.beta == 41.0
    assert (config.sampling.near_radius_m, config.sampling.far_radius_m) == (4.0, 9.0)


@pytest.mark.parametrize(
    ("argv", "section", "option", "value"),
    [
        ("--loss.limit_m inf", "loss", "limit_m", math.inf),
        ("--loss.limit_m -1e-3", "loss", "limit_m", -1e-3),
        ("--loss.heading_limit_rad none", "loss", "heading_limit_rad", None),
        ("--loss.step none", "loss", "step", "none"),
        ("--loss.step 3", "loss", "step", 3.0),
        ("--loss.step inf", "loss", "step", math.inf),
        ("--loss.mining false", "loss", "mining", False),
        ("--training.skip_unreadable --seed 1", "training", "skip_unreadable", True),
        ("--dataset.conditions a,1e3,null", "dataset", "conditions", ("a", "1e3", "null")),
        ("--dataset.conditions=", "dataset", "conditions", ()),
        ('--dataset.conditions ["a,b"]', "dataset", "conditions", ("a,b",)),
        ("--dataset.size_px 3,4", "dataset", "size_px", (3, 4)),
        ("--evaluation.thresholds_m 5,1e3", "evaluation", "thresholds_m", (5.0, 1000.0)),
        ("--evaluation.thresholds_m 5", "evaluation", "thresholds_m", (5.0,)),
        ("--dataset.label #none", "dataset", "label", "#none"),
        ("--dataset.label none", "dataset", "label", None),
        ("--dataset.places none", "dataset", "places", "none"),
        ("--dataset.split none", "dataset", "split", "none"),
        ("--dataset.split 3", "dataset", "split", 3),
        ("--dataset.root /data", "dataset", "root", Path("/data")),
    ],
)
def test_values(registry, argv, section, option, value):
    chosen = getattr(parse_run(argv.split(), registry), section)
    assert getattr(getattr(chosen, "options", chosen), option) == value


def test_a_path_may_be_relative_to_another_option(registry, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    words = ["--dataset.root", "photos", "--dataset.table"]

    def table(name):
        return parse_run([*words, name], registry).dataset.options.table

    assert table("a.csv") == tmp_path / "photos" / "a.csv"
    assert table(str(tmp_path / "b.csv")) == tmp_path / "b.csv"
    (tmp_path / "a.csv").touch()  # only here
    assert table("a.csv") == tmp_path / "a.csv"
    (tmp_path / "photos" / "a.csv").touch()  # and there
    assert table("a.csv") == tmp_path / "photos" / "a.csv"
    config = parse_run(["--dataset.table", "c.csv"], registry)
    assert config.dataset.options.table == tmp_path / "c.csv"


def test_a_relative_path_is_kept_absolute(registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = parse_run(["--dataset.root", "images"], registry)
    assert config.dataset.options.root == tmp_path / "images"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("--loss nonsense", "unknown loss 'nonsense'; known: contrastive, proposed"),
        ("--loss tripplet", "unknown loss 'tripplet'; did you mean 'triplet'"),
        ("--loss.bet 3", "unknown option '--loss.bet'; did you mean '--loss.beta'"),
        ("--see 3", "unknown option '--see'; did you mean '--seed'"),
        ("--sampling 3", "--sampling needs the name of an option, such as --sampling.tuples_per_batch"),
        ("--loss.name.x 3", "unknown option '--loss.name.x'"),
        ("--ot 3", "unknown option '--ot'; did you mean '--out'"),
        ("--loss.margin 3", "not an option of loss 'soft'.*one of --loss contrastive, --loss triplet$"),
        ("--loss", "--loss needs the name of a loss; known: contrastive, proxy, soft"),
        ("--loss.beta x", "--loss.beta: expected float, got 'x'"),
        ("--loss.beta none", "--loss.beta: expected float, got 'none'"),
        ("--loss.beta", "--loss.beta needs a value: float"),
        ("--loss.beta --seed 3", "--loss.beta needs a value"),
        ("--seed 3.0", "--seed: expected int, got '3.0'"),
        ("--loss.mining 1", "--loss.mining: expected bool, got '1'"),
        ("--dataset.size_px 3", "--dataset.size_px: expected int,int, got '3'"),
        ("--dataset.size_px 3,x", "--dataset.size_px: expected int,int, got '3,x'"),
        ("--dataset.split test", "--dataset.split: expected one of train, none, 3, got 'test'"),
        ("--loss.beta -1", "--loss.beta must be greater than 0, got -1.0"),
        ("--loss.beta nan", "--loss.beta must be greater than 0, got nan"),
        ("--loss.beta inf", "--loss.beta must be finite, got inf"),
        ("--loss.alpha nan", "--loss.alpha must be finite, got nan"),
        ("--loss.alpha 99", "loss 'soft': alpha 99.0 must not exceed beta 50.0"),
        ("--evaluation.recall_at 1,0", "--evaluation.recall_at must be at least 1, got 1,0"),
        ("--evaluation.thresholds_m=-5", "must be greater than 0, got -5"),
        ("--evaluation.thresholds_m 5,nan", "must be greater than 0, got 5.0,nan"),
        ("--evaluation.auc_limits_m inf", "must be finite, got inf"),
        ("--sampling.near_heading_limit_deg 181", "must be between 0 and 180, got 181.0"),
        ("--seed=-1", "--seed must be at least 0, got -1"),
        ("--beta 3", "unknown option '--beta'; did you mean '--loss.beta'"),
        ("--lr 3", "unknown option '--lr'; did you mean '--training.learning_rate'"),
        ("--learning-rate 3", "did you mean '--training.learning_rate'"),
        ("--optimizer sgd", "did you mean '--training.optimizer'"),
        ("--optim.lr 3", "did you mean '--training.learning_rate'"),
        ("--batch-size 3", "did you mean '--sampling.tuples_per_batch'"),
        ("--training.batch_size 3", "did you mean '--sampling.tuples_per_batch'"),
        ("--sampling.batch_size 3", "did you mean '--sampling.tuples_per_batch'"),
        ("--train-batch-size 3", "did you mean '--sampling.tuples_per_batch'"),
        ("--infer-batch-size 3", "did you mean '--evaluation.batch_size'"),
        ("--training.num_epochs 3", "did you mean '--training.max_steps'"),
        ("--training.lr 3", "did you mean '--training.learning_rate'"),
        ("--recall-values 1", "did you mean '--evaluation.recall_at'"),
        ("--root /data", "did you mean '--dataset.root'"),
        ("--margin 0.1", "did you mean '--loss.margin'"),
        ("--aggregation gem", "did you mean '--pooling'"),
        ("--sampling.skip_unreadable true", "did you mean '--training.skip_unreadable'"),
        ("--frobnicate 3", r"unknown option '--frobnicate' \(see 'mlcore train --help'\)$"),
        ("proposed", "unexpected argument 'proposed'"),
        ("--loss soft x", "unexpected argument 'x'"),
        ("--miner geometric-pairs", "--miner.*loss 'soft' mines its own pairs"),
        ("--loss proxy --miner geometric-pairs", "loss 'proxy' does not take mined pairs or triplets"),
        ("--loss proxy --influence.cutoff_m 3", "--influence.cutoff_m.*does not use an influence"),
        ("--loss triplet --miner geometric-pairs", "produces pairs, but.*takes triplets"),
        ("--config", "--config needs the path"),
        ("--config no/such.toml", "no/such.toml: No such file"),
    ],
)  # fmt: skip
def test_refused_on_the_command_line(registry, argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_run(argv.split(), registry, command=Command(flags=["--out"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = 1\n[loss]\nbeta = \n", "run.toml is not valid TOML: .*line 3"),
        ("sed = 1", "unknown key in .*run.toml 'sed'; did you mean 'seed'"),
        ("[los]\nbeta = 1", "unknown section in .*run.toml 'los'; did you mean 'loss'"),
        ('loss = "soft"', "'loss' must be a section"),
        (
            "[loss]\nbet = 1",
            r"unknown key in \[loss\] of .*run.toml 'bet'; did you mean 'beta'",
        ),
        ("[loss]\nmargin = 1", r"run.toml: \[loss\] margin is not an option of loss 'soft'"),
        ('[loss]\nname = "sof"', r"run.toml: \[loss\] name: unknown loss 'sof'"),
        ("[loss]\nname = 3", r"\[loss\] name needs the name of a loss"),
        ('[loss]\nbeta = "40"', r"run.toml: \[loss\] beta: expected float, got '40'"),
        ("[loss]\nmining = 1", "expected bool, got 1"),
        ("[training]\nmax_steps = 7.0", "expected int, got 7.0"),
        ("[training]\nmax_steps = true", "expected int, got True"),
        ("[training]\nmax_step = 7", "did you mean 'max_steps'"),
        ("[training]\nname = 'x'", "unknown key"),
        ("[dataset]\nconditions = 'a'", "expected comma-separated text, got 'a'"),
        ("[dataset]\nsize_px = [1, 2, 3]", "expected int,int, got \\[1, 2, 3\\]"),
        ("[dataset.root]\na = 1", "expected path or none, got {'a': 1}"),
        ("[miner]\nname = 'geometric-pairs'", r"\[miner\] name.*mines its own pairs"),
        ("seed = 'a'", "run.toml: seed: expected int, got 'a'"),
        ("[seed]\na = 1", "run.toml: seed: expected int"),
    ],
)
def test_refused_in_a_file(registry, toml, text, message):
    with pytest.raises(ConfigError, match=message):
        run_from_toml(toml(text), registry)


def test_a_file_that_is_no_text(registry, tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"x\.toml is not valid TOML: it is not UTF-8"):
        run_from_toml(path, registry)


def test_a_file_for_another_component_says_so(registry, toml):
    path = toml('[loss]\nname = "soft"\nbeta = 3.0\n')
    with pytest.raises(ConfigError, match=r"\[loss\] beta is not an option of loss 'triplet'"):
        parse_run(["--config", str(path), "--loss", "triplet"], registry)


def test_the_error_of_a_name_is_of_its_own_class(registry):
    with pytest.raises(UnknownNameError) as caught:
        parse_run(["--loss", "nonsense"], registry)
    assert "triplet" in caught.value.known


def test_resolved_file_repeats_the_run(registry, toml):
    argv = "--seed 5 --loss triplet --loss.margin 0.25 --dataset.label none --dataset.limit 9"
    config = parse_run(argv.split(), registry)
    path = toml(run_to_toml(config))
    assert run_from_toml(path, registry) == config
    assert parse_run(["--config", str(path)], registry) == config
    assert run_to_toml(run_from_toml(path, registry)) == path.read_text()


def test_resolved_file_has_every_option(registry):
    config = replace(parse_run([], registry), seed=8)
    lines = run_to_toml(config).splitlines()
    assert lines[0] == "seed = 8"
    assert "limit_m = inf" in lines
    assert 'root = "none"' in lines
    assert "near_radius_m = 7.0" in lines


def test_help_has_the_options_of_the_chosen_only(registry):
    text = run_help(read_argv(["--loss", "soft"]), registry)
    assert "--loss.beta FLOAT" in text
    assert "100 % of beta" in " ".join(text.split())
    assert "--influence.cutoff_m" in text
    assert "--loss.margin" not in text
    assert "--training.max_steps" in text
    assert "--loss NAME" in text
    assert "(greater than 0; default: 50.0)" in " ".join(text.split())
    assert "--loss.margin" in run_help(read_argv(["--loss", "triplet"]), registry)
    with pytest.raises(UnknownNameError):
        run_help(read_argv(["--loss", "x"]), registry)
