"""Gradients of several processes are those of one that has the joint batch."""

from __future__ import annotations

import pytest
import torch

from benchmarks._joint import Setting, losses, spawned
from mlcore.protocols import RowwiseLoss
from mlcore.testing.cases import loss_case_of, standard

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
EVERY_LOSS = [Setting(name, dtype) for name in losses() for dtype in TOLERANCE]
CHUNKED = [Setting(name, chunk_size=4) for name in ("soft-contrastive", "pml-proxy-anchor")]
TILED = [Setting("soft-contrastive", dtype, tiled=True) for dtype in TOLERANCE]
IGNORING = Setting("soft-contrastive", ignoring=True)


def assert_gradients_of_one_process(count: int, every_loss: list[Setting]) -> None:
    settings = [*every_loss, *CHUNKED, *TILED, IGNORING]
    found = dict(zip(settings, spawned(count, settings), strict=True))
    # The wrapper that forgets the other processes' negatives must not pass.
    assert found.pop(IGNORING) > 1e-3
    wrong = {s: d for s, d in found.items() if not d <= TOLERANCE[s.dtype]}
    assert not wrong


def test_two_processes():
    assert_gradients_of_one_process(2, EVERY_LOSS)


@pytest.mark.slow
def test_four_processes():
    in_float64 = [setting for setting in EVERY_LOSS if setting.dtype == "float64"]
    assert_gradients_of_one_process(4, in_float64)


def test_what_is_tried_has_every_kind_of_loss():
    factories = losses()
    assert len(factories) > 30
    assert any(name.startswith("example:") for name in factories)
    built = {name: loss_case_of(f, standard()).loss for name, f in factories.items()}
    rowwise = {name for name, loss in built.items() if isinstance(loss, RowwiseLoss)}
    assert "soft-contrastive" in rowwise
    assert any(name.startswith("example:") for name in rowwise)
    assert any(list(loss.parameters()) for loss in built.values())
    assert any(f.mining == "external" for f in factories.values())
    # 35 or 40 images: two processes share them evenly or not, four never evenly.
    sizes = {len(loss_case_of(f, standard(num_tuples=5)).batch) for f in factories.values()}
    assert any(size % 2 for size in sizes)
    assert torch.distributed.is_available()
