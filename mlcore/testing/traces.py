"""Checks of what a call leaves behind in the process, whatever the kind of component."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import random
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mlcore.testing.check import expect
from mlcore.testing.observe import process_state
from mlcore.testing.subject import Subject

Use = Callable[[Subject], tuple[object, Callable[[], object]]]
"""Builds a component; returns it, and a function that calls it as the engine does."""


def leaves_no_trace(subject: Subject, *, use: Use) -> None:
    """A call prints nothing, and leaves no setting, thread or graph behind.

    stdout belongs to the command, settings to everyone, and a graph that is kept holds the
    memory of a whole step.
    """
    printed = io.StringIO()
    with restored_settings() as settings_now:
        settings, threads = settings_now(), set(threading.enumerate())
        with contextlib.redirect_stdout(printed):
            component, call = use(subject)
            kept = _graphs_kept(component, call)
        expect(
            not printed.getvalue(), "nothing printed to stdout", repr(printed.getvalue()[:80])
        )
        after = settings_now()
        changed = [name for name, value in settings.items() if after[name] != value]
        expect(not changed, "settings left as they were", f"{', '.join(changed)} changed")
        left = [t.name for t in threading.enumerate() if t not in threads]
        expect(not left, "no thread that goes on after the call", ", ".join(left[:3]))
        expect(
            not kept,
            "nothing kept of a call's autograd graph, which holds the memory of the step "
            "(.detach() what is kept)",
            _place(component, kept[0]) if kept else "",
        )
        _expect_not_reseeded(call)


def registered(subject: Subject, *, use: Use) -> None:
    """Tensors that a module is built with follow it to the GPU and into a checkpoint."""
    component, _ = use(subject)
    for name, tensor in _held(component):
        expect(
            not tensor.requires_grad,
            f"{name} to be a torch.nn.Parameter of a torch.nn.Module, or the optimizer never "
            "sees it",
            "a tensor that requires a gradient and is no parameter",
        )
        expect(
            tensor.dim() == 0 or not isinstance(component, nn.Module),
            f"{name} to be a parameter or a buffer (self.register_buffer), which .to(device) "
            "and state_dict take along",
            "a tensor that is neither",
        )


def _expect_not_reseeded(call: Callable[[], object]) -> None:
    """A call that seeds a global generator repeats everyone else's random numbers."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the generator that others share
        random.seed(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            call()
        states.append(_random_states())
    same = [name for name, state in states[0].items() if state == states[1][name]]
    expect(
        not same,
        "global generators that nobody seeds; draw from "
        "torch.Generator().manual_seed(context.seed)",
        f"{', '.join(same)} seeded by a call",
    )


def _random_states() -> dict[str, object]:
    return {
        "torch's": torch.get_rng_state().tolist(),
        "NumPy's": str(np.random.get_state()[1].tolist()),  # type: ignore[index,call-overload,unused-ignore]  # noqa: NPY002
        "random's": random.getstate(),
    }


@contextlib.contextmanager
def restored_settings() -> Iterator[Callable[[], dict[str, object]]]:
    """Yield a function that reads global settings, and restore them at the end.

    So each check finds what a command finds, whatever the one before has changed.
    """
    dtype, grad = torch.get_default_dtype(), torch.is_grad_enabled()
    threads, states = torch.get_num_threads(), (np.random.get_state(), random.getstate())  # noqa: NPY002
    folder, environment = Path.cwd(), dict(os.environ)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        try:
            yield _settings
        finally:
            torch.set_default_dtype(dtype)
            torch.set_grad_enabled(grad)
            torch.set_num_threads(threads)
            np.random.set_state(states[0])  # noqa: NPY002
            random.setstate(states[1])
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)


def _settings() -> dict[str, object]:
    return {
        **process_state(),
        "torch's default dtype": torch.get_default_dtype(),
        "whether torch computes gradients": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _graphs_kept(component: object, call: Callable[[], object]) -> list[Tensor]:
    """Return the tensors with a graph that outlive a call and its result."""
    gc.freeze()  # what is older than the call need not be searched, which takes seconds
    try:
        call()
        kept = _with_graph(component)
        if kept:  # by a cycle of references, it may be
            kept.clear()
            gc.collect()
            kept = _with_graph(component)
        return kept
    finally:
        gc.unfreeze()


def _with_graph(component: object) -> list[Tensor]:
    """Return the tensors with a graph that a component holds or that are newer than it."""
    old = [tensor for _, tensor in _held(component)]
    if isinstance(component, nn.Module):
        old += component.buffers()
    new = [found for found in gc.get_objects() if issubclass(type(found), Tensor)]
    return [tensor for tensor in (*old, *new) if tensor.grad_fn is not None]


def _place(component: object, tensor: Tensor) -> str:
    names = [name for name, held in _held(component) if held is tensor]
    return names[0] if names else f"a tensor of shape {tuple(tensor.shape)}"


def _held(component: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in attributes of a component that are no parameters or buffers."""
    modules = dict(component.named_modules()) if isinstance(component, nn.Module) else {}
    for path, owner in (modules or {"": component}).items():
        for attribute, value in getattr(owner, "__dict__", {}).items():
            if isinstance(owner, nn.Module) and attribute in ("_parameters", "_buffers"):
                continue
            name = ".".join(filter(None, ("self", path, attribute)))
            yield from _tensors_in(name, value)


def _tensors_in(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, list | tuple | dict):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            if isinstance(item, Tensor):
                yield f"{name}[{key!r}]", item
