"""Kinds of files that a run writes and later commands read: checkpoints and its folder."""

from __future__ import annotations

import io
import json
import shutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlcore.options import RunConfig
    from mlcore.registry.discovery import Registry
    from mlcore.run_folder import RunFolder

STEP = 3


def checkpoint() -> bytes:
    """Return a small training state."""
    import torch

    weights = {"model.a": torch.arange(12.0).reshape(3, 4), "loss.b": torch.ones(2)}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(3, 4)}}
    state = {
        "state_dict": weights,
        "global_step": STEP,
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def read_newest(path: Path) -> object:
    """Look for the newest whole checkpoint of a run that has this one only."""
    run = _run_with(path, f"checkpoints/step-{STEP:09d}.ckpt")
    found = run.newest_checkpoint()
    return None if found is None else run.load_checkpoint(found)


def read_weights(path: Path) -> object:
    """Load a checkpoint without the look at its checksums, and compare the weights' shapes."""
    import torch

    from mlcore.run_folder import require_same_shapes

    run = _run_with(path, f"checkpoints/step-{STEP:09d}.ckpt")
    state = run.load_checkpoint(run.checkpoint_path(STEP))
    expected = {"model.a": torch.empty(3, 4), "loss.b": torch.empty(2)}
    require_same_shapes(expected, state["state_dict"], str(path))
    return state


def config() -> bytes:
    """Return a run's ``config.toml``."""
    from mlcore.options import run_to_toml

    return run_to_toml(_config()).encode()


def read_config(path: Path) -> object:
    """Read ``config.toml``."""
    from mlcore.options import run_from_toml

    return run_from_toml(path, _registry())


def environment() -> bytes:
    """Return an ``environment.json`` with a history."""
    change = {"mlcore": {"before": "1.0", "now": "1.1"}, "torch": {"before": "2", "now": None}}
    entry = {"date": "2026-01-01", "step": 2, "changes": {"code": change}}
    content = {
        "command": "mlcore train",
        "data_fingerprint": "abc",
        "code": {"mlcore": "1.0", "torch": "2"},
        "configuration": {"seed": "0"},
        "history": [entry],
    }
    return json.dumps(content, indent=1).encode()


def read_environment(path: Path) -> object:
    """Compare ``environment.json`` with what a resumed run would go on with."""
    from mlcore.run_folder import KINDS
    from mlcore.training.provenance import Provenance, went_on

    now = Provenance(data={"fingerprint": "abc"}, code={"mlcore": "1.1"}, config={"seed": "0"})
    run = _run_with(path, "environment.json")
    return went_on(run.read_json(run.environment), now, _config(), accepted=KINDS)


def evaluation() -> bytes:
    """Return the results of three queries."""
    import numpy as np

    from mlcore.evaluation.documents import to_document
    from mlcore.evaluation.evaluate import evaluate_split
    from mlcore.options.engine import EvaluationOptions
    from mlcore.protocols import PlaceTable, Split

    def table(count: int) -> PlaceTable:
        along = np.arange(float(count))[:, None] * [4.0, 0.0]
        none = np.zeros(count, np.int64)
        return PlaceTable(
            index=np.arange(count),
            positions_m=along,
            traversal=none,
            traversals=("a",),
            condition=none,
            conditions=("sun",),
        )

    embeddings = np.eye(6, 4, dtype=np.float32)
    split = Split(references=table(6), queries=table(3))
    options = EvaluationOptions()
    found = evaluate_split(embeddings, embeddings[:3], split, options, name="trained")
    return json.dumps(to_document([found]), indent=1).encode()


def read_evaluation(path: Path) -> object:
    """Read ``evaluation.json`` and measure again."""
    from mlcore.evaluation.measures import summaries
    from mlcore.evaluation.recording import read_results

    run = _run_with(path, "evaluation.json")
    return [summaries(one) for one in read_results(run, run.evaluation)]


def metrics() -> bytes:
    """Return twelve rows of ``metrics.jsonl``."""
    rows = [json.dumps({"step": step, "loss": 1.0 / step}) for step in range(1, 13)]
    return ("\n".join(rows) + "\n").encode()


def read_metrics(path: Path) -> object:
    """Drop the rows that a resumed run makes again, and read those left for a report."""
    from mlcore.cli.commands.report import _rows

    run = _run_with(path, "metrics.jsonl")
    rows = _rows(run.metrics)
    run.cut_metrics(6)
    return rows, _rows(run.metrics)


def plan() -> bytes:
    """Return the ``plan.json`` of a comparison."""
    row = {"options": config().decode(), "learning_rates": [0.1], "split": "test"}
    return json.dumps({"proposed": row}, indent=1).encode()


def read_plan(path: Path) -> object:
    """Add a row to a comparison."""
    from mlcore.cli.comparison_folder import ComparisonFolder

    run = _run_with(path, "plan.json")
    return ComparisonFolder(run.path).add_rows({"triplet": _config()}, [0.1], "test")


def _run_with(path: Path, name: str) -> RunFolder:
    """Return a run folder that holds nothing but a copy of the file under this name."""
    from mlcore.run_folder import RunFolder

    folder = path.parent / "run"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / name).parent.mkdir(parents=True)
    shutil.copy(path, folder / name)
    return RunFolder(folder)


@cache
def _registry() -> Registry:
    from mlcore.registry.discovery import Registry

    return Registry.discover()


@cache
def _config() -> RunConfig:
    from mlcore.options import resolve_run

    config: Any = resolve_run([], _registry())
    return config
