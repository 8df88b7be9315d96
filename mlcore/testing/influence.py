"""Checks of influence functions."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcore.geometry import pairwise_distance_m, takes_headings
from mlcore.protocols import DeviceCode, DeviceInfluenceFunction, InfluenceFunction
from mlcore.testing.cases import build, clusters, thresholds_m
from mlcore.testing.check import CheckSkipped, Fault, expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.losses.learning import gap
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace

_UNBOUNDED_M = 100.0
"""How far an unbounded support is tried."""

_HALVED_M = 15.0

_FLOAT32 = 2e-6
"""Rounding of a weight in [0, 1] in float32, through a function or two."""


def distances_m(
    subject: Subject, dtype: torch.dtype = torch.float64, *, step: int = 1
) -> Tensor:
    """Return distances from 0 to 1,000 km, ascending, most of them in the first 200 m.

    With them come the function's own thresholds, and distances 1 mm below and above: its
    options in metres and the ends of its support.

    Args:
        subject: The influence function.
        dtype: Type of the distances.
        step: Takes every n-th of the distances that are no thresholds.
    """
    function: InfluenceFunction = build(subject.factory)
    ends = {float(function.support_m), float(function.repulsion_start_m)}
    own = {*thresholds_m(subject.factory.config(), largest=1e6), *ends}
    around = [t + mm for t in own for mm in (-0.001, 0.0, 0.001) if 0 <= t + mm <= 1e6]
    fine = torch.linspace(0, 200, 4001, dtype=torch.float64)
    coarse = torch.logspace(math.log10(201), 6, 200, dtype=torch.float64)
    near = torch.tensor(around, dtype=torch.float64)
    found = torch.cat([fine[::step], coarse[::step], near]).to(dtype)
    return torch.sort(found).values


def in_range(subject: Subject) -> None:
    """Weights are weights."""
    for dtype in (torch.float32, torch.float64):
        distance = distances_m(subject, dtype)
        weight = build(subject.factory)(distance)
        bad = ~((weight >= 0) & (weight <= 1))
        if bad.any():
            row = int(bad.nonzero()[0])
            raise Fault(
                f"weights in [0, 1] in {dtype}",
                f"{float(weight[row]):.6g} at {float(distance[row]):.6g} m",
            )


def monotone(subject: Subject) -> None:
    """What is farther attracts no more."""
    distance = distances_m(subject)
    weight = build(subject.factory)(distance)
    rises = (weight.diff() > 0).nonzero()[:, 0]
    if len(rises):
        row = int(rises[0])
        raise Fault(
            "weights that never rise with distance",
            f"{float(weight[row]):.6g} at {float(distance[row]):.6g} m, then "
            f"{float(weight[row + 1]):.6g} at {float(distance[row + 1]):.6g} m",
        )


def value_at_zero(subject: Subject) -> None:
    """``repulsion_start_m`` says from where on a pair repels."""
    function: InfluenceFunction = build(subject.factory)
    start = function.repulsion_start_m
    expect(
        isinstance(start, float | int) and not math.isnan(start),
        "repulsion_start_m to be a number",
        repr(start),
    )
    at_zero = float(function(torch.zeros(1, dtype=torch.float64)))
    expect(at_zero > 0, "a positive weight at 0 m", at_zero)
    if start < 0:
        return
    expect(
        at_zero == 1,
        f"weight 1 at 0 m, as repulsion_start_m = {start:g} says; negative if even coincident "
        "pairs repel",
        f"{at_zero:.6g}",
    )
    inside = torch.linspace(0, min(start, 1e6), 100, dtype=torch.float64)
    expect(
        bool((function(inside) == 1).all()),
        f"weight 1 up to repulsion_start_m = {start:g}",
        f"{float(function(inside).min()):.6g}",
    )


def support(subject: Subject) -> None:
    """A pair that counts as attracting does attract."""
    function: InfluenceFunction = build(subject.factory)
    limit = function.support_m
    expect(
        isinstance(limit, float | int) and limit > 0,
        "a positive support_m (or inf)",
        repr(limit),
    )
    bound = limit * (1 - 1e-6) if math.isfinite(limit) else _UNBOUNDED_M
    inside = torch.linspace(0, bound, 2001, dtype=torch.float64)
    without = (function(inside) <= 0).nonzero()[:, 0]
    if len(without):
        raise Fault(
            f"a positive weight everywhere below support_m = {limit:g} (each pair inside the "
            "support adds a constant to the loss, even one of weight 0)",
            f"0 at {float(inside[without[0]]):.6g} m; set support_m to where the weight ends",
        )


def shape_and_dtype(subject: Subject) -> None:
    """The weights are a tensor like the distances."""
    function = build(subject.factory)
    for dtype in (torch.float32, torch.float64):
        for shape in ((), (0,), (3,), (2, 3)):
            weight: Any = function(torch.ones(shape, dtype=dtype))
            expect(isinstance(weight, Tensor), "a tensor of weights", type(weight).__name__)
            expect(
                (tuple(weight.shape), weight.dtype) == (shape, dtype),
                f"weights of shape {shape} and {dtype}, as the distances",
                f"shape {tuple(weight.shape)}, {weight.dtype}",
            )


def inputs_unmodified(subject: Subject) -> None:
    """Distances are used again by the caller."""
    distance = distances_m(subject)
    build(subject.factory)(distance)
    expect(torch.equal(distance, distances_m(subject)), "distances as they were", "others")


def learns(subject: Subject) -> None:
    """A gradient step of a contrastive loss with it widens the gap between far and near pairs.

    The loss is the mean of ``w d^2 - (1 - w) d^2`` over pairs with embedding distance d and
    weight w. Positions are scaled such that the weight has halved at 15 m, between near pairs
    and far ones.
    """
    function: InfluenceFunction = build(subject.factory)
    distance_m = distances_m(subject)
    weight = function(distance_m)
    halved = (weight <= weight[0] / 2).nonzero()[:, 0]
    expect(
        len(halved),
        "a weight that halves within 1,000 km, so that near pairs attract more than far ones",
        f"{float(weight[0]):.6g} at 0 m and {float(weight[-1]):.6g} at 1,000 km",
    )
    scale = float(distance_m[halved[0]]) / _HALVED_M
    embeddings, batch = clusters(seed=0)
    leaf = embeddings.clone().requires_grad_()
    apart = (leaf[:, None] - leaf[None]).square().sum(dim=-1)
    weights = function(scale * pairwise_distance_m(batch.positions_m)).to(apart.dtype)
    (gradient,) = torch.autograd.grad(((2 * weights - 1) * apart).mean(), [leaf])
    moved = embeddings - 0.1 * gradient / gradient.norm(dim=1).max().clamp(min=1e-30)
    before, after = gap(embeddings, batch), gap(moved, batch)
    expect(
        after > before,
        "near images to come together and far ones apart in a step down the gradient",
        f"far pairs were {before:+.4f} farther than near ones in the embedding, and then "
        f"{after:+.4f}",
    )


def across_regions(subject: Subject) -> None:
    """Images of two regions are infinitely far apart, and only repel."""
    weight = float(build(subject.factory)(torch.tensor([math.inf], dtype=torch.float64)))
    expect(
        weight == 0,
        "weight 0 at an infinite distance, which images of two regions have",
        f"{weight:.6g}",
    )


def headings(subject: Subject) -> None:
    """An influence function of headings weighs equal ones most, and ends at ``support_rad``."""
    function: InfluenceFunction = build(subject.factory)
    if not takes_headings(function):
        raise CheckSkipped("it is of distance alone")
    limit = function.support_rad
    expect(
        isinstance(limit, float | int) and limit > 0,
        "a positive support_rad (or inf)",
        repr(limit),
    )
    expect(
        function.without_headings in ("refuse", "distance"),
        "without_headings to be 'refuse' or 'distance'",
        repr(function.without_headings),
    )
    expect(
        function.repulsion_start_m < 0,
        "a negative repulsion_start_m, because images at one point that look different ways "
        "repel",
        function.repulsion_start_m,
    )
    for dtype in (torch.float32, torch.float64):
        distance, turn = torch.meshgrid(
            distances_m(subject, dtype, step=40), _turns_rad(limit, dtype), indexing="ij"
        )
        weight = function(distance.clone(), turn.clone())
        expect(
            (weight.shape, weight.dtype) == (distance.shape, dtype),
            f"weights of shape {tuple(distance.shape)} and {dtype}, as the distances",
            f"shape {tuple(weight.shape)}, {weight.dtype}",
        )
        rises = (weight.diff(dim=1) > 0) | (weight[:, 1:] < 0)
        if rises.any():
            row, column = rises.nonzero()[0].tolist()
            raise Fault(
                f"weights in [0, 1] that never rise with the difference of headings in {dtype}",
                f"{float(weight[row, column]):.6g} at {float(turn[row, column]):.4g} rad, then "
                f"{float(weight[row, column + 1]):.6g} at {float(turn[row, column + 1]):.4g} "
                f"rad, {float(distance[row, 0]):.4g} m apart",
            )
        alone = function(distance[:, 0].clone())
        expect(
            # A column of a matrix is computed in other vectors, which may round otherwise.
            torch.allclose(weight[:, 0], alone, rtol=8 * torch.finfo(dtype).eps, atol=1e-30),
            "the weight of equal headings where no difference is given",
            f"up to {float((weight[:, 0] - alone).abs().max()):.6g} more or less",
        )
    inside = torch.linspace(0, min(limit * (1 - 1e-6), math.pi), 200, dtype=torch.float64)
    least = function(torch.zeros_like(inside), inside)
    expect(
        bool((least > 0).all()),
        f"a positive weight everywhere below support_rad = {limit:g} (each pair inside the "
        "support adds a constant to the loss, even one of weight 0)",
        f"{float(least.min()):.6g}",
    )


def _turns_rad(limit_rad: float, dtype: torch.dtype) -> Tensor:
    """Return differences of headings, ascending from 0 to pi, with those about a limit."""
    around = [limit_rad + more for more in (-1e-6, 0.0, 1e-6) if limit_rad + more <= math.pi]
    own = torch.tensor(around, dtype=torch.float64)
    found = torch.cat([torch.linspace(0, math.pi, 91, dtype=torch.float64), own])
    return torch.sort(found).values.to(dtype)


def device_code(subject: Subject) -> None:
    """The C expression computes what the function does."""
    function: InfluenceFunction = build(subject.factory)
    if not isinstance(function, DeviceInfluenceFunction):
        raise CheckSkipped("it has no device_code; CUDA takes the tiled torch path")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CheckSkipped("no C compiler (cc, gcc or clang) to compile device_code with")
    code = function.device_code()
    with tempfile.TemporaryDirectory() as folder:
        evaluate = _compiled(code, compiler, Path(folder), turns=takes_headings(function))
        distance = distances_m(subject, torch.float32, step=8)
        turns: list[float | None] = [None]
        if takes_headings(function):
            turns = _turns_rad(function.support_rad, torch.float32)[::15].tolist()
        for turn in turns:
            if turn is None or not takes_headings(function):
                in_python = function(distance.clone())
            else:
                in_python = function(distance.clone(), torch.full_like(distance, turn))
            for d, wanted in zip(distance.tolist(), in_python.tolist(), strict=True):
                got = evaluate(d) if turn is None else evaluate(d, turn)
                at = f"{d:g} m" if turn is None else f"{d:g} m and {turn:g} rad"
                expect(
                    abs(got - wanted) <= _FLOAT32,
                    f"{wanted:.9g} at {at} from device_code too",
                    f"{got:.9g} from {code.expression!r}",
                )


def _compiled(
    code: DeviceCode, compiler: str, folder: Path, *, turns: bool
) -> Callable[..., float]:
    """Return the expression as a function of distance (and turn), through the C compiler."""
    names = ["d", *(["h"] if turns else []), *code.parameters]
    arguments = ", ".join(f"float {name}" for name in names)
    source = folder / "influence.c"
    source.write_text(
        f"#include <math.h>\nfloat weight({arguments}) {{ return {code.expression}; }}\n"
    )
    library = folder / "influence.so"
    done = subprocess.run(  # noqa: S603 - the expression is the plugin's, and so is the machine
        [compiler, "-std=c99", "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "error" in line]
        raise Fault(
            "a C99 expression of d and the parameters' names",
            f"{code.expression!r}: {(errors or ['it does not compile'])[0].split(': ')[-1]}",
        )
    weight = ctypes.CDLL(str(library)).weight
    weight.restype = ctypes.c_float
    weight.argtypes = [ctypes.c_float] * len(names)
    values = list(code.parameters.values())
    return lambda *variables: float(weight(*variables, *values))


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    function = build(subject.factory)
    return function, lambda: function(torch.linspace(0, 50, 101, dtype=torch.float64))


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "range": in_range,
    "monotone": monotone,
    "value-at-zero": value_at_zero,
    "support": support,
    "shape-and-dtype": shape_and_dtype,
    "learns": learns,
    "across-regions": across_regions,
    "inputs-unmodified": inputs_unmodified,
    "headings": headings,
    "device-code": device_code,
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
}
