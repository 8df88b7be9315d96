"""A whole run that learns nothing warns while it trains and at its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[1] / "support"
TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "8"),
    *("--sampling.near_per_tuple", "1", "--sampling.far_per_tuple", "1"),
    *("--training.max_steps", "110", "--training.log_every", "50", "--loss", "still"),
    *("--training.augment", "false", "--evaluation.baselines", "false"),
]
PLUGIN = """
from dataclasses import dataclass

import torch

import mlcore


@dataclass(frozen=True, kw_only=True)
class Config:
    pass


class Still(torch.nn.Module):
    def forward(self, embeddings, batch, tuples=None):
        return mlcore.LossOutput({loss})


@mlcore.hookimpl
def mlcore_losses():
    return [
        mlcore.LossFactory(name="still", summary="s", config=Config, build=lambda *_: Still())
    ]
"""


def train(folder: Path, loss: str):
    (folder / "still.py").write_text(PLUGIN.format(loss=loss))
    info = folder / "still-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: still\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlcore.plugins]\nstill = still\n")
    return subprocess.run(
        [sys.executable, "-m", "mlcore", "train", *TINY, "--out", str(folder / "run")],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{SUPPORT}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        ("embeddings.sum() * 0", "0"),
        pytest.param("(embeddings * 0).sum() + 0.25", "0.25", marks=pytest.mark.slow),
    ],
)
def test_a_constant_loss(tmp_path, loss, value):
    done = train(tmp_path, loss)
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert warnings[0].startswith(f"warning: step 100: the loss has been {value} for 100 steps")
    assert f"at the end of training, the loss has been {value}" in warnings[1]
    assert warnings[-1] == warnings[1] or len(warnings) == 2


def test_a_loss_that_varies(tmp_path):
    done = train(tmp_path, "embeddings[:, 0].mean()")
    assert done.returncode == 0, done.stderr
    assert "warning: " not in done.stderr
