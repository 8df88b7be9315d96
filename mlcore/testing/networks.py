"""Checks of backbones, poolings and whole models: all are modules, called with a batch."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BackboneFactory, BuildContext, PoolingFactory, shared_options
from mlcore.models.parts import Backbone, Pooling
from mlcore.models.tuning import train_last
from mlcore.protocols import Features, FeatureShape
from mlcore.testing.check import CheckSkipped, Fault, expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace, registered

_NUM_IMAGES = 2
_SIDE_PX = 64
_WHOLE_SIDE_PX = 112
"""A multiple of the usual patches of 8, 14 and 16 px, which a whole network does not tell."""

_ODD_SIZE_PX = (67, 91)
_FEATURES = FeatureShape(num_channels=64, has_token=True, height=9, width=8)
_ODD_FEATURES = FeatureShape(num_channels=64, has_token=True, height=7, width=11)
_CLOSE = 1e-4
"""Of the largest value: rounding of float32 in another order, through some fifty layers."""

_EXACT = 1e-8
"""Likewise, of float64."""


class Case(NamedTuple):
    """A module in evaluation mode and a batch for it."""

    module: nn.Module
    batch: Tensor | Features

    def output(self, batch: Tensor | Features | None = None) -> Tensor:
        """Return what comes out for a copy of a batch, as one tensor ``(B, ...)``."""
        found: Any = self.module(_copied(self.batch if batch is None else batch))
        if not isinstance(found, Features):
            return found  # type: ignore[no-any-return]
        parts = [found.maps.flatten(1), *([] if found.token is None else [found.token])]
        return torch.cat(parts, dim=1)


def case_of(subject: Subject, *, odd: bool = False, seed: int = 7) -> Case:
    """Build a component with its default options, and a batch of images or features."""
    factory = subject.factory
    size = _ODD_SIZE_PX if odd else _usual_size_px(factory)
    torch.manual_seed(seed)
    context = BuildContext(seed=seed, input_size_px=size)
    if isinstance(factory, PoolingFactory):
        shape = _ODD_FEATURES if odd else _FEATURES
        module = factory.build(factory.config(), replace(context, features=shape))
        return Case(module.eval(), _features(shape))
    if isinstance(factory, BackboneFactory):
        backbone = factory.build(factory.config(), context)
        train_last(backbone, 1 if backbone.blocks else "all")
        return Case(backbone.eval(), _images(size) / 255)
    if factory.backbone:
        context = _with_parts(subject, context)
    return Case(factory.build(factory.config(), context).eval(), _images(size))


def _usual_size_px(factory: Any) -> tuple[int, int]:
    """Return height and width that a backbone takes: a multiple of its patches."""
    if isinstance(factory, BackboneFactory):
        size = (_WHOLE_SIDE_PX, _WHOLE_SIDE_PX)
        patch = factory.build(factory.config(), BuildContext(input_size_px=size)).patch_size
        side = patch * math.ceil(_SIDE_PX / patch)
    else:
        side = _SIDE_PX if getattr(factory, "backbone", "") else _WHOLE_SIDE_PX
    return side, side


def shapes(subject: Subject) -> None:
    """What comes out has the declared shape and is finite."""
    case = case_of(subject)
    found = case.module(case.batch)
    if isinstance(case.module, Backbone):
        expect(isinstance(found, Features), "mlcore.Features", type(found).__name__)
        channels = case.module.num_channels
        expect(
            found.maps.ndim == 4 and found.maps.shape[:2] == (_NUM_IMAGES, channels),
            f"maps of shape ({_NUM_IMAGES}, {channels}, h, w)",
            tuple(found.maps.shape),
        )
        token = None if found.token is None else tuple(found.token.shape)
        wanted = (_NUM_IMAGES, channels) if case.module.has_token else None
        expect(token == wanted, f"a class token of shape {wanted}", token)
    else:
        module: Any = case.module
        size = module.output_dim if isinstance(module, Pooling) else module.embedding_dim
        shape = tuple(found.shape)
        expect(shape == (_NUM_IMAGES, size), f"shape ({_NUM_IMAGES}, {size})", shape)
    numbers = case.output()
    expect(numbers.dtype == torch.float32, "float32 for a batch in float32", numbers.dtype)
    expect(bool(numbers.isfinite().all()), "finite numbers", "NaN or infinity")


def one_image(subject: Subject) -> None:
    """An image alone gives what it gives in a batch."""
    case = case_of(subject)
    with torch.no_grad():
        _expect_close(case.output(_rows(case.batch, 0, 1)), case.output()[:1], "alone")


def odd_sizes(subject: Subject) -> None:
    """Images of any size give finite numbers, or one error that names the size."""
    try:
        case = case_of(subject, odd=True)
        with torch.no_grad():
            found = case.output()
    except (ConfigError, DataError) as error:
        raise CheckSkipped(f"it refuses {_ODD_SIZE_PX} px: {error}") from error
    expect(bool(found.isfinite().all()), "finite numbers", "NaN or infinity")


def flat_images(subject: Subject) -> None:
    """Images of one colour, such as a covered lens, give finite numbers and gradients."""
    case = case_of(subject)
    for value in (0, 128):
        flat = _each(case.batch, lambda tensor, value=value: torch.full_like(tensor, value))  # type: ignore[misc]
        found = case.output(flat)
        expect(bool(found.isfinite().all()), "finite numbers", f"NaN or infinity for {value}")


def half_precision(subject: Subject) -> None:
    """16 bits give finite numbers that are near those of 32."""
    case = case_of(subject)
    for cast in (False, True):
        module = case.module.to(torch.bfloat16) if cast else case.module
        batch = _cast(case.batch, torch.bfloat16) if cast else case.batch
        around = nullcontext() if cast else torch.autocast("cpu", dtype=torch.bfloat16)
        with torch.no_grad(), around:
            found = Case(module, batch).output()
        how = "with weights in bfloat16" if cast else "under autocast"
        expect(bool(found.isfinite().all()), f"finite numbers {how}", "NaN or infinity")


def inputs_unmodified(subject: Subject) -> None:
    """The batch is used again by the caller."""
    case = case_of(subject)
    before = _copied(case.batch)
    case.module.train()
    case.module(case.batch)
    for one, other in zip(_tensors(case.batch), _tensors(before), strict=True):
        expect(torch.equal(one, other), "a batch as it was", "another")


def gradient(subject: Subject) -> None:
    """A gradient reaches every parameter that requires one, and no other."""
    case = case_of(subject)
    parameters = dict(case.module.named_parameters())
    if not parameters:
        raise CheckSkipped("it has no parameters")
    found = case.output()
    if any(parameter.requires_grad for parameter in parameters.values()):
        expect(
            found.requires_grad,
            "an output that depends on what is trained",
            "one that does not",
        )
        found.square().mean().backward()  # type: ignore[no-untyped-call]
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            expect(parameter.grad is None, f"no gradient at {name}, which is frozen", "one")
            continue
        expect(parameter.grad is not None, f"a gradient at {name}, which is trained", "none")
        assert parameter.grad is not None
        expect(bool(parameter.grad.isfinite().all()), f"a finite gradient at {name}", "NaN")


def state_dict(subject: Subject) -> None:
    """Another one with the same state gives the same numbers."""
    case, other = case_of(subject), case_of(subject, seed=8)
    other.module.load_state_dict(case.module.state_dict())
    with torch.no_grad():
        expect(
            torch.equal(case.output(), other.output(case.batch)),
            "the same numbers with the same state_dict; register what is not a parameter as a "
            "buffer",
            "others",
        )


def picklable(subject: Subject) -> None:
    """A copy in another process gives the same numbers."""
    case = case_of(subject)
    copied = pickle.loads(pickle.dumps(case.module))  # noqa: S301 - what was just written
    with torch.no_grad():
        same = torch.equal(case.output(), Case(copied, case.batch).output())
    expect(same, "the same numbers of an unpickled copy", "others")


def in_chunks(subject: Subject) -> None:
    """A batch in chunks (``training.chunk_size``) gives the same numbers and gradients."""
    single = case_of(subject)
    case = Case(single.module.double(), _cast(single.batch, torch.float64))
    whole = case.output()
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(whole.shape[1:], generator=generator, dtype=torch.float64)
    parts = [case.output(_rows(case.batch, row, row + 1)) for row in range(_NUM_IMAGES)]
    _expect_close(torch.cat(parts).detach(), whole.detach(), "in chunks", _EXACT)
    trained = [p for p in case.module.parameters() if p.requires_grad]
    if not trained or not whole.requires_grad:
        return
    at_once = _gradients(whole, weight, trained)
    by_part = [_gradients(part, weight, trained) for part in parts]
    for one, *rows in zip(at_once, *by_part, strict=True):
        _expect_close(torch.stack(rows).sum(dim=0), one, "in chunks, of the gradient", _EXACT)


def _gradients(found: Tensor, weight: Tensor, trained: list[nn.Parameter]) -> list[Tensor]:
    """Return the gradients of the weighted sum; 0 where "gradient" finds that there is none."""
    gradients = torch.autograd.grad((found * weight).sum(), trained, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(trained, gradients, strict=True)
    ]


def _with_parts(subject: Subject, context: BuildContext) -> BuildContext:
    """Return the context with the parts of a named pair of the same plugin."""
    pair, options = subject.factory, subject.factory.config()
    parts = {(f.kind, f.name): f for f in subject.source.load()}
    pooling_name = getattr(options, "pooling", pair.pooling)
    try:
        backbone: Any = parts["backbone", pair.backbone]
        pooling: Any = parts["pooling", pooling_name]
    except KeyError as error:
        raise CheckSkipped(f"{error.args[0]} is of another plugin") from error
    built = backbone.build(shared_options(backbone.config, options), context)
    features = built.feature_shape(context.input_size_px)
    context = replace(context, backbone=built, features=features)
    return replace(
        context, pooling=pooling.build(shared_options(pooling.config, options), context)
    )


def _images(size: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (_NUM_IMAGES, 3, *size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _features(shape: FeatureShape) -> Features:
    generator = torch.Generator().manual_seed(1)
    size = (_NUM_IMAGES, shape.num_channels, shape.height, shape.width)
    maps = torch.randn(size, generator=generator)
    return Features(maps, torch.randn(size[:2], generator=generator))


def _tensors(batch: Tensor | Features) -> list[Tensor]:
    parts = batch if isinstance(batch, Features) else (batch,)
    return [part for part in parts if part is not None]


def _each(batch: Tensor | Features, change: Callable[[Tensor], Tensor]) -> Tensor | Features:
    if isinstance(batch, Features):
        return Features(*(None if part is None else change(part) for part in batch))  # type: ignore[arg-type]
    return change(batch)


def _rows(batch: Tensor | Features, start: int, stop: int) -> Tensor | Features:
    return _each(batch, lambda tensor: tensor[start:stop])


def _cast(batch: Tensor | Features, dtype: torch.dtype) -> Tensor | Features:
    return _each(batch, lambda t: t.to(dtype) if t.is_floating_point() else t)


def _copied(batch: Tensor | Features) -> Tensor | Features:
    return _each(batch, torch.clone)


def _expect_close(found: Tensor, wanted: Tensor, how: str, close: float = _CLOSE) -> None:
    scale = float(wanted.abs().max())
    off = float((found - wanted).abs().max())
    if off > close * max(scale, 1e-6):
        raise Fault(f"the same numbers {how}", f"some off by {off:.2g} of {scale:.2g}")


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    case = case_of(subject)
    return case.module, case.output


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "shapes": shapes,
    "one-image": one_image,
    "odd-sizes": odd_sizes,
    "half-precision": half_precision,
    "inputs-unmodified": inputs_unmodified,
    "gradient": gradient,
    "state-dict": state_dict,
    "picklable": picklable,
    "in-chunks": in_chunks,
    "flat-images": flat_images,
    "registered": partial(registered, use=_use),
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
}
