"""``mlcore compare``: same tuples, restartable, a table that a reviewer can trust."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlcore.cli.comparison_folder import ComparisonFolder
from mlcore.cli.main import main
from mlcore.cli.variants import configure, variation
from mlcore.errors import ConfigError
from mlcore.options import read_argv, with_files
from mlcore.options.components import TRAIN
from mlcore.registry.discovery import Registry

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--evaluation.dimensions", "8", "--training.log_every", "1"),
    *("--training.max_steps", "4"),
]
THREE = ["--losses", "proposed,proposed+step,triplet"]
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def compare(*words):
    return main(["compare", *(str(word) for word in (*words, *TINY))])


def done(out, seeds):
    """Compare three losses, one run after the other; return the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert compare(*THREE, "--seeds", seeds, "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    return done(tmp_path_factory.mktemp("compared") / "out", "0,1")


def test_every_loss_and_seed_is_a_run_and_a_row(compared):
    names = {path.name for path in (compared / "runs").iterdir()}
    losses = ("proposed", "proposed+step", "triplet")
    assert names == {f"{loss}-seed-{seed}" for loss in losses for seed in (0, 1)}
    document = json.loads((compared / "comparison.json").read_text())
    assert [row["name"] for row in document["entries"]] == [*losses, "untrained", "pixels"]
    assert document["reference"] == "proposed"
    for row in document["entries"]:
        assert set(row["summaries"]) == {"0", "1"}
    table = (compared / "table.txt").read_text()
    for word in (*losses, "pixels", "±", "won / lost"):
        assert word in table
    assert (compared / "metres.png").stat().st_size > 5000


def test_again_is_read_from_disk_and_more_adds_to_it(compared, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.jsonl")}
    words = [*THREE, "--seeds", "0,1", "--out", out]
    assert compare(*words, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((compared / "comparison.json").read_text())
    assert compare("--losses", "proposed,lazy-triplet", "--seeds", "1", "--out", out) == 0
    assert before == {
        path: path.stat().st_mtime_ns
        for path in out.glob("runs/*/metrics.jsonl")
        if not path.parent.name.startswith("lazy")
    }
    entries = json.loads((out / "comparison.json").read_text())["entries"]
    assert {e["name"]: set(e["summaries"]) for e in entries} == {
        "proposed": {"0", "1"},
        "lazy-triplet": {"1"},
        "proposed+step": {"0", "1"},
        "triplet": {"0", "1"},
        "untrained": {"0", "1"},
        "pixels": {"0", "1"},
    }


def test_a_killed_comparison_goes_on_to_the_same_result(compared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    run = out / "runs" / "triplet-seed-1"
    (run / "evaluation.json").unlink()
    shutil.rmtree(out / "runs" / "proposed-seed-1")
    (out / "comparison.json").unlink()
    words = [*THREE, "--seeds", "0,1", "--out", out]
    assert compare(*words) == 0
    for name in ("comparison.json", "table.txt"):
        assert (out / name).read_text() == (compared / name).read_text()


def test_a_loss_that_diverges_is_a_row(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed,exploding", "--out", out]
    for _ in range(2):  # the second time from disk
        assert compare(*words) == 0
        printed = capsys.readouterr()
        assert "0, 1 diverged" in printed.out
    document = json.loads((out / "comparison.json").read_text())
    assert "nan at step 2" in document["entries"][1]["failures"]["0"]


def test_learning_rates_are_searched_on_validation(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed", "--learning-rates", "1e-9,3e-3", "--out", out]
    assert compare(*words) == 0
    runs = sorted(path.name for path in (out / "search").iterdir())
    assert runs == ["proposed-rate-0.003", "proposed-rate-1e-09"]
    areas = {}
    for name in runs:
        (one,) = json.loads((out / "search" / name / "evaluation.json").read_text())[
            "evaluations"
        ]
        assert one["protocol"]["split"] == "validation"
        rows = (out / "search" / name / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 2
        areas[float(name.rpartition("rate-")[2])] = one["summary"]["overall"]["area"]["25"]
    document = json.loads((out / "comparison.json").read_text())
    assert document["entries"][0]["learning_rate"] == max(areas, key=areas.get)


def refused(capsys, *words):
    assert compare(*words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_bad_input_is_told_before_any_run(tmp_path, capsys):
    out = tmp_path / "out"
    assert "did you mean 'triplet'" in refused(
        capsys, "--losses", "proposed,triplett", "--out", out
    )
    assert "'a,a' contains a value twice" in refused(capsys, "--losses", "a,a", "--out", out)
    assert "expected values separated by commas, got '0,x'" in refused(
        capsys, "--losses", "proposed", "--seeds", "0,x", "--out", out
    )
    assert "--loss cannot be used in a comparison; use --losses" in refused(
        capsys, "--losses", "proposed", "--loss=triplet", "--out", out
    )
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").touch()
    assert "is not empty and does not hold a comparison" in refused(
        capsys, "--losses", "proposed", "--out", out
    )


def test_other_options_or_versions_are_not_mixed(compared, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    words = [*THREE, "--seeds", "0,1", "--out", out]
    message = refused(capsys, *words, "--sampling.far_radius_m", "40")
    assert "holds runs of 'proposed' with other options" in message
    path = out / "runs" / "triplet-seed-1" / "environment.json"
    environment = json.loads(path.read_text())
    environment["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(environment))
    message = refused(capsys, *words)
    assert "cannot be compared: they were made with torch" in message


@pytest.fixture(scope="module")
def compared_once(tmp_path_factory):
    """With one seed, for what does the same in processes, which take long to start."""
    return done(tmp_path_factory.mktemp("compared") / "out", "0")


@pytest.mark.slow
def test_several_at_once_give_the_same(compared_once, tmp_path, capsys):
    out = tmp_path / "out"
    assert compare(*THREE, "--seeds", "0", "--parallel", "2", "--out", out) == 0
    wanted = (compared_once / "comparison.json").read_text()
    assert (out / "comparison.json").read_text() == wanted
    assert "3 of 3 runs" in capsys.readouterr().err
    assert "training: 4 of 4" in (out / "logs" / "runs-triplet-seed-0.txt").read_text()


@pytest.mark.slow
def test_an_error_in_a_process_is_one_message(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed,triplet", "--parallel", "2", "--out", out]
    message = refused(capsys, *words, "--sampling.far_radius_m", "1e7")
    assert "no tuple can be formed" in message
    assert str(out / "runs") in message


def test_options_vary(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed,proposed+step", "--vary", "influence.cutoff_m=5,15"]
    words += ["--vary", "sampling.near_per_tuple,sampling.far_per_tuple=2,3", "--out", out]
    assert compare(*words) == 0
    printed = capsys.readouterr()
    assert "did not see the same tuples" in printed.err
    names = [
        row["name"] for row in json.loads((out / "comparison.json").read_text())["entries"]
    ]
    assert names[:2] == [
        "proposed cutoff_m=5 near_per_tuple=2",
        "proposed cutoff_m=5 near_per_tuple=3",
    ]
    assert len(names) == 8 + 2
    run = out / "runs" / "proposed+step,cutoff_m=15,near_per_tuple=2-seed-0"
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["influence"]["cutoff_m"] == 15
    assert config["sampling"]["near_per_tuple"] == config["sampling"]["far_per_tuple"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vary", "loss.beta"], "expected OPTION,...=VALUE,..., got 'loss.beta'"),
        (["--vary", "seed=1,2"], "'seed' cannot be varied: use --seeds"),
        (["--vary", "loss.betta=1"], "did you mean '--loss.beta'"),
        (["--vary", "loss.beta=1", "--vary", "loss.beta=2"], "two options called 'beta'"),
        (["--parallel", "0"], "--parallel must be at least 1, got 0"),
        (["--slurm", "time=5"], "--slurm needs --launcher slurm"),
        (["--slurm", "time"], "expected KEY=VALUE,..., got 'time'"),
        (["--launcher", "slurm"], "--launcher slurm: Could not detect"),
    ],
)
def test_words_that_make_no_sense(tmp_path, capsys, words, message):
    assert message in refused(capsys, "--losses", "proposed", *words, "--out", tmp_path / "o")


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    folder = ComparisonFolder(tmp_path / "out")
    with folder.lock():
        assert "is in use by another 'mlcore compare'" in refused(
            capsys, "--losses", "proposed", "--out", folder.path
        )
    with folder.lock():
        pass


def configured(registry, losses, *words, vary=()):
    given = with_files(read_argv(words))
    return configure(losses, [variation(v) for v in vary], given, registry, TRAIN)


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


def test_an_option_holds_for_the_losses_that_have_it(registry, tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[loss]\nname = "proposed"\nbeta = 40.0\n[training]\nmax_steps = 3\n')
    words = ["--influence.cutoff_m", "3", "--config", str(file)]
    rows, partial = configured(registry, ["proposed", "proposed+step", "triplet"], *words)
    by_name = {row.name: config for row, config in rows.items()}
    assert by_name["proposed"].influence.options.cutoff_m == 3.0
    assert by_name["proposed+step"].loss.options.beta == 40.0
    assert by_name["triplet"].influence is None
    assert {config.training.max_steps for config in rows.values()} == {3}
    assert [str(one) for one in partial] == [
        f"{file}: [loss] beta 40.0 holds for proposed, proposed+step",
        "--influence.cutoff_m 3 holds for proposed, proposed+step",
    ]


def test_a_loss_without_the_option_that_varies_has_one_row(registry):
    rows, _ = configured(registry, ["proposed", "triplet"], vary=["influence.cutoff_m=3,10"])
    names = [row.name for row in rows]
    assert names == ["proposed cutoff_m=3", "proposed cutoff_m=10", "triplet"]


@pytest.mark.parametrize(
    ("words", "vary", "message"),
    [
        (["--influence.cutoff_m", "3"], [], "--influence.cutoff_m does not apply"),
        (["--loss.betta", "3"], [], "unknown option '--loss.betta'"),
        ([], ["influence.cutoff_m=3"], "--influence.cutoff_m does not apply"),
    ],
)
def test_an_option_of_none_of_the_losses_is_refused(registry, words, vary, message):
    with pytest.raises(ConfigError, match=message):
        configured(registry, ["triplet", "lazy-triplet"], *words, vary=vary)


def test_same_by_construction_is_the_same_row_twice(tmp_path):
    """Near images within the cutoff of each other, far ones apart: two names, one loss."""
    out = tmp_path / "out"
    words = ["--losses", "proposed+step,multi-similarity-paper", "--out", out]
    words += ["--training.precision", "64-true", "--sampling.near_radius_m", "4"]
    words += ["--sampling.far_radius_m", "20", "--training.max_steps", "12"]
    assert compare(*words) == 0
    first, second, *_ = json.loads((out / "comparison.json").read_text())["entries"]
    assert first["summaries"] == second["summaries"]
    assert second["against_reference"] == {
        "area": {"mean": 0.0, "low": 0.0, "high": 0.0},
        "wins": 0.0,
        "losses": 0.0,
    }


_FAKE_SBATCH = """#!/bin/sh
# One process after another, where SLURM would start them side by side.
for given; do :; done
script=$(mktemp)
cp "$given" "$script"  # SLURM too keeps what it was given
size=$(sed -n 's/.*--array=0-\\([0-9]*\\).*/\\1/p' "$script")
for task in $(seq 0 "$size"); do
    sleep 0.2 # until what the job reads has its name
    SLURM_JOB_ID=7 SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task SLURM_NTASKS=1 \\
        SLURM_JOB_NUM_NODES=1 SLURM_NODEID=0 SLURM_PROCID=0 SLURM_LOCALID=0 \\
        SLURM_JOB_NODELIST=here sh "$script"
done > "$given.log" 2>&1 &
echo "Submitted batch job 7"
"""
_FAKE_SRUN = """#!/bin/sh
shift 5  # --unbuffered --output FILE --error FILE
exec "$@"
"""
_FAKE_SACCT = """#!/bin/sh
printf 'JobID|State\\n7_0|RUNNING\\n7_1|RUNNING\\n'
"""


@pytest.mark.slow
def test_runs_as_slurm_jobs(tmp_path, monkeypatch, compared_once):
    """A stand-in for sbatch does at once what SLURM would do with the job array."""
    tools = tmp_path / "bin"
    tools.mkdir()
    fakes = {"sbatch": _FAKE_SBATCH, "srun": _FAKE_SRUN, "sacct": _FAKE_SACCT}
    for name, text in fakes.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    out = tmp_path / "out"
    words = ["--losses", "proposed,proposed+step", "--seeds", "0", "--launcher", "slurm"]
    assert compare(*words, "--slurm", "time=5,partition=gpu", "--out", out) == 0
    wanted = json.loads((compared_once / "comparison.json").read_text())["entries"]
    found = json.loads((out / "comparison.json").read_text())["entries"]
    for here, there in zip(found[:2], wanted[:2], strict=True):
        assert here["summaries"]["0"] == there["summaries"]["0"]


@contextmanager
def long_comparison(out):
    """Give the process of a comparison which does two long runs at once."""
    words = [*THREE, "--seeds", "0,1", "--out", str(out)]
    long = [*TINY[:-1], "400"]
    command = [sys.executable, "-m", "mlcore", "compare", *words, "--parallel", "2", *long]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while len(list(out.glob("runs/*/metrics.jsonl"))) < 2:
            assert process.poll() is None
            time.sleep(0.05)
        yield process


@pytest.mark.slow
def test_stopping_several_at_once_leaves_them_to_go_on(tmp_path):
    """SIGTERM to the command: every process saves and none begins another run."""
    out = tmp_path / "out"
    with long_comparison(out) as process:
        process.terminate()
        _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "run the same command again to continue" in told
    assert "Traceback" not in told
    begun = [path.parent.parent for path in out.glob("runs/*/checkpoints/*.ckpt")]
    assert 1 <= len(set(begun)) <= 2
    assert not list(out.glob("runs/*/evaluation.json"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_a_killed_command_leaves_no_process_that_goes_on_writing(tmp_path):
    with long_comparison(tmp_path / "out") as process:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        children = [Path("/proc") / number for number in listed.split()]
        assert len(children) >= 2
        process.kill()
        process.wait()
        until = time.monotonic() + 10
        while any(is_alive(child) for child in children):
            assert time.monotonic() < until
            time.sleep(0.05)


def is_alive(process):
    """Return whether a folder of /proc is there and no mere remainder."""
    try:
        return "State:\tZ" not in (process / "status").read_text()
    except OSError:
        return False
