"""Gradients of one batch computed in parts, by processes and chunks, and as a whole.

The whole is plain autograd; the parts take the path that training takes
(:mod:`mlcore.training.gradient_cache`, :mod:`mlcore.training.joint`).
"""

from __future__ import annotations

import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlcore.distributed import deal, join_rows, num_processes, rank
from mlcore.factories import LossFactory
from mlcore.registry.discovery import Registry
from mlcore.testing.cases import LossCase, loss_case_of, standard
from mlcore.training.gradient_cache import EmbeddedImages, InChunks, WithGraph
from mlcore.training.joint import add_up_gradients, embedding_gradient, joint_loss

EXAMPLE = Path(__file__).parent.parent / "tests/thirdparty/mlcore_example/src"
NUM_PIXELS = 12
DTYPES = {"float64": torch.float64, "float32": torch.float32}

Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Setting:
    """How a gradient is computed in parts.

    Attributes:
        loss: Name of a loss; "example:..." is of the third-party package of the tests.
        dtype: "float64" or "float32".
        chunk_size: Images with a graph at once; 0 is all of a process.
        ignoring: Whether the loss is wrapped so that a share knows its own rows only.
        tiled: Whether the loss, soft-contrastive, is computed in tiles, which it would not be
            for so few images; the whole is dense.
    """

    loss: str
    dtype: str = "float64"
    chunk_size: int = 0
    ignoring: bool = False
    tiled: bool = False


class Network(nn.Module):
    """Pixels to embeddings, with dropout where that is wanted."""

    def __init__(self, num_dimensions: int, *, normalize: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(NUM_PIXELS, 16),
            nn.Tanh(),
            nn.Dropout(dropout),
            nn.Linear(16, num_dimensions),
        )
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, D)`` of images ``(B, NUM_PIXELS)``."""
        embeddings: Tensor = self.layers(images)
        return nn.functional.normalize(embeddings, dim=1) if self.normalize else embeddings


class IgnoresOthers(nn.Module):
    """The mistake: each process's loss over its own images, as if they were the batch."""

    def __init__(self, loss: Any) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, embeddings: Tensor, batch: Any, tuples: Any = None) -> Any:
        """Return the loss as it is."""
        return self.loss(embeddings, batch, tuples)

    def forward_rows(self, embeddings: Tensor, batch: Any, rows: slice) -> Any:
        """Return the loss of the rows alone, by their share of the batch."""
        output = self.loss(embeddings[rows], batch.take(rows), None)
        share = len(batch.take(rows)) / len(batch)
        return output._replace(loss=output.loss * share)


def losses() -> dict[str, LossFactory]:
    """Return every loss that is shipped, and one of another package, by name."""
    shipped = {
        factory.name: factory
        for plugin in Registry.discover().plugins
        if plugin.distribution == "mlcore-localization"
        for factory in plugin.factories
        if isinstance(factory, LossFactory)
    }
    if str(EXAMPLE) not in sys.path:
        sys.path.insert(0, str(EXAMPLE))
    from mlcore_example import plugin

    return shipped | {f"example:{factory.name}": factory for factory in plugin.mlcore_losses()}


def largest_difference(parts: Gradients, whole: Gradients) -> float:
    """Return the largest difference of a parameter's gradient, relative to its largest entry.

    Entries are measured against a thousandth of the largest gradient at least.
    """
    assert parts.keys() == whole.keys(), (parts.keys(), whole.keys())
    top = max(float(gradient.abs().max()) for gradient in whole.values())
    return max(
        float((parts[name] - gradient).abs().max())
        / max(float(gradient.abs().max()), 1e-3 * top)
        for name, gradient in whole.items()
    )


def difference(factory: LossFactory, setting: Setting) -> float:
    """Return the largest relative difference of the gradient in parts from the whole one."""
    return largest_difference(in_parts(factory, setting), whole(factory, setting))


def whole(factory: LossFactory, setting: Setting) -> Gradients:
    """Return the gradients of plain autograd over the whole batch."""
    case, network, images = _prepare(factory, setting)
    torch.manual_seed(1)
    case.loss(network(images), case.batch, case.tuples).loss.backward()
    return _gradients(network, case.loss)


def in_parts(factory: LossFactory, setting: Setting) -> Gradients:
    """Return the gradients as this process has them after a step of training."""
    case, network, images = _prepare(factory, setting)
    loss: Any = IgnoresOthers(case.loss) if setting.ignoring else case.loss
    if setting.tiled:
        loss.config = replace(loss.config, implementation="tiled")
    rows = deal(len(images), num_processes())
    mine = rows[rank()]
    embedded: EmbeddedImages = (
        InChunks(network, images[mine], setting.chunk_size, images.device)
        if setting.chunk_size
        else WithGraph(network, images[mine])
    )
    sizes = [part.stop - part.start for part in rows]
    leaf = join_rows(embedded.embeddings, sizes).requires_grad_()
    torch.manual_seed(1)
    tuples = None if setting.ignoring else case.tuples
    output = joint_loss(loss, leaf, case.batch, tuples)
    output.mine.backward()  # type: ignore[no-untyped-call]
    embedded.backward(embedding_gradient(leaf, output.in_shares)[mine])
    add_up_gradients(network, case.loss, output.in_shares)  # type: ignore[arg-type]
    return _gradients(network, case.loss)


def _prepare(factory: LossFactory, setting: Setting) -> tuple[LossCase, Network, Tensor]:
    dtype = DTYPES[setting.dtype]
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        case = loss_case_of(factory, standard(num_tuples=5), dtype=dtype)
    network = Network(case.embeddings.shape[1], normalize=factory.normalize).to(dtype)
    return case, network, torch.randn(len(case.batch), NUM_PIXELS).to(dtype)


def _gradients(network: nn.Module, loss: Any) -> Gradients:
    named = [*network.named_parameters(prefix="model"), *loss.named_parameters(prefix="loss")]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def spawned(count: int, settings: Sequence[Setting]) -> list[float]:
    """Return :func:`difference` of each setting, the largest of ``count`` gloo processes."""
    return run_in_processes(count, _differences, (list(settings),))


def run_in_processes(count: int, function: Callable[..., Any], arguments: Iterable[Any]) -> Any:
    """Return what ``function(*arguments)`` returns in the first of ``count`` processes."""
    context = torch.multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    work = (count, environment, function, tuple(arguments), answers)
    running = torch.multiprocessing.spawn(_process, work, nprocs=count, join=False)
    answer = None
    while not running.join(timeout=0.1):
        if answer is None and not answers.empty():
            answer = answers.get()
    return answers.get() if answer is None else answer


def _process(
    number: int,
    count: int,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: Sequence[Any],
    answers: Any,
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", rank=number, world_size=count, timeout=timedelta(seconds=60)
    )
    answer = function(*arguments)
    if number == 0:
        answers.put(answer)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _differences(settings: Sequence[Setting]) -> list[float]:
    factories = losses()
    mine = torch.tensor([difference(factories[s.loss], s) for s in settings]).double()
    torch.distributed.all_reduce(mine, op=torch.distributed.ReduceOp.MAX)
    return mine.tolist()
