"""The forms of the loss that the first run on a GPU holds to dense float64."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks import _loss_steps as work
from mlcore_soft_contrastive import dispatch, soft_contrastive_loss

if TYPE_CHECKING:
    from benchmarks.gpu_first import Run


@dataclass(frozen=True)
class Result:
    """Loss and gradient of one step."""

    loss: Tensor
    grad: Tensor


@dataclass(frozen=True)
class Difference:
    """How far a step is from the reference.

    Attributes:
        loss: Relative.
        grad: Norm of the difference, relative to that of the gradient.
        rows_off: Rows off by more than 1e-5: a mining threshold that rounding crossed.
        rest: Like ``grad``, without those rows.
    """

    loss: float
    grad: float
    rows_off: int
    rest: float

    def is_rounding(self, rows: int) -> bool:
        """Return whether this is float32 rounding; the bounds of ``tests/gpu``."""
        return self.loss < 1e-5 and self.rest < 2e-6 and self.rows_off <= 0.01 * rows

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.1e}, gradient {self.grad:.1e}, rows off {self.rows_off}, "
            f"rest {self.rest:.1e}"
        )


@dataclass(frozen=True)
class Batch:
    """Embeddings, raw UTM positions and headings."""

    embeddings: Tensor
    positions: Tensor
    headings: Tensor

    @classmethod
    def of(cls, size: int, dim: int, data: str, device: str) -> Batch:
        embeddings, positions, _ = work.batch(size, dim, data, device)
        turns = torch.rand(
            size, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        return cls(embeddings, positions, ((turns - 0.5) * 2 * math.pi).to(device))

    def double(self) -> Batch:
        return replace(self, embeddings=self.embeddings.double())

    def step(self, implementation: Any, **options: Any) -> Result:
        leaf = self.embeddings.detach().clone().requires_grad_()
        loss = soft_contrastive_loss(
            leaf, self.positions, implementation=implementation, **options
        )
        (grad,) = torch.autograd.grad(loss, leaf)
        return Result(loss.detach(), grad)


def difference(got: Result, wanted: Result) -> Difference:
    """Compare two steps."""
    grad, expected = got.grad.double(), wanted.grad.double()
    lengths, off = expected.norm(dim=1), (grad - expected).norm(dim=1)
    crossed = off > 1e-5 * lengths.clamp(min=float(lengths.square().mean().sqrt()))
    whole = expected.norm()
    return Difference(
        loss=float((got.loss - wanted.loss).abs() / wanted.loss.abs()),
        grad=float(off.norm() / whole),
        rows_off=int(crossed.sum()),
        rest=float(off[~crossed].norm() / whole),
    )


def others(run: Run) -> None:
    """Compare the rectangular form, other dtypes and precisions, streams and threads."""
    size = 500 if run.dry else 3000
    batch = Batch.of(size, 64, "route", run.device)
    wanted = batch.double().step("dense", mining=False)

    def hold(name: str, got: Result, *, bound: float | None = None) -> None:
        found = difference(got, wanted)
        close = found.is_rounding(size) if bound is None else found.grad < bound
        run.hold(name, right=close, found=str(found))

    columns = replace(batch, embeddings=batch.embeddings.T.contiguous().T)
    hold("non-contiguous", columns.step(run.implementation, mining=False))
    found = difference(
        _rectangular(batch, run.implementation), _rectangular(batch.double(), "dense")
    )
    run.hold("rectangular", right=found.is_rounding(2 * size), found=str(found))
    half = replace(batch, embeddings=batch.embeddings.bfloat16())
    found = difference(
        half.step(run.implementation, mining=False), half.double().step("dense", mining=False)
    )
    # The gradient is rounded to bfloat16, whose unit is 2^-8 of each entry.
    run.hold("bfloat16 embeddings", right=found.grad < 2**-8, found=str(found))
    with torch.autocast(run.device, dtype=torch.bfloat16):
        hold("inside autocast", batch.step(run.implementation, mining=False))
    hold("another thread", _in_a_thread(batch, run))
    if run.dry:
        return
    for precision, bound in (("tf32", 1e-2), ("bfloat16", 5e-2)):
        got = batch.step("cupy", mining=False, tile_precision=precision)
        hold(precision, got, bound=bound)
    for setting in ("high", "highest"):
        torch.set_float32_matmul_precision(setting)
        hold(f"float32_matmul_precision {setting}", batch.step("cupy", mining=False))
    hold("fused", batch.step("fused", mining=False))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # A kernel on another stream would overtake this and read too early.
        torch.cuda._sleep(200_000_000)  # noqa: SLF001 - torch has no public one
        late = replace(batch, embeddings=batch.embeddings * 1.0).step("cupy", mining=False)
    stream.synchronize()
    hold("side stream behind a long kernel", late)
    dispatch.DEVICE_TILE = 2048
    large = Batch.of(70_000, 16, "route", run.device)  # 2.4e9 kept similarities
    kept, again = (
        large.step("cupy", mining=False, save_similarity=save) for save in (True, False)
    )
    same = torch.equal(kept.grad, again.grad)
    run.hold("kept similarities beyond 2^31", right=same, found=f"equal bits {same}")


def _rectangular(batch: Batch, implementation: Any) -> Result:
    """Return a step of the first third against all but the first quarter."""
    third, quarter = len(batch.embeddings) // 3, len(batch.embeddings) // 4
    rows = batch.embeddings[:third].clone().requires_grad_()
    columns = batch.embeddings[quarter:].clone().requires_grad_()
    loss = soft_contrastive_loss(
        rows,
        batch.positions[:third],
        references=columns,
        reference_positions_m=batch.positions[quarter:],
        self_index=(torch.arange(third, device=rows.device) - quarter).clamp(min=-1),
        implementation=implementation,
    )
    return Result(loss.detach(), torch.cat(torch.autograd.grad(loss, (rows, columns))))


def _in_a_thread(batch: Batch, run: Run) -> Result:
    results: list[Result] = []
    thread = threading.Thread(
        target=lambda: results.append(batch.step(run.implementation, mining=False))
    )
    thread.start()
    thread.join()
    return results[0]
