"""A whole run that learns nothing warns while it trains and at its end."""

from __future__ import annotations

import sys

import pytest

from mlcore.cli.main import main

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "8"),
    *("--sampling.near_per_tuple", "1", "--sampling.far_per_tuple", "1"),
    *("--training.max_steps", "110", "--training.log_every", "50", "--loss", "still"),
    *("--training.augment", "false", "--training.evaluate", "false"),
    *("--evaluation.whitening", "none"),
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


@pytest.fixture
def train(tmp_path, monkeypatch, capsys, synthetic_plugin):
    """Return a function that trains with a loss and returns the warnings."""

    def run(loss: str) -> list[str]:
        (tmp_path / "still.py").write_text(PLUGIN.format(loss=loss))
        info = tmp_path / "still-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: still\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[mlcore.plugins]\nstill = still\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "still", raising=False)
        assert main(["train", *TINY, "--out", str(tmp_path / "run")]) == 0
        said = capsys.readouterr().err.splitlines()
        return [line for line in said if line.startswith("warning: ")]

    return run


@pytest.mark.parametrize(
    ("loss", "value"),
    [("embeddings.sum() * 0", "0"), ("(embeddings * 0).sum() + 0.25", "0.25")],
)
def test_a_constant_loss(train, loss, value):
    warnings = train(loss)
    assert warnings[0].startswith(f"warning: step 100: the loss has been {value} for 100 steps")
    assert f"at the end of training, the loss has been {value}" in warnings[1]
    assert warnings[-1] == warnings[1] or len(warnings) == 2


def test_a_loss_that_varies(train):
    assert train("embeddings[:, 0].mean()") == []
