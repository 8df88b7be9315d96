"""Estimate the memory and disk space of a run before it starts.

Shapes: ``b`` images of one process with a graph at once, ``B`` in the joint batch, ``D``
embedding dimensions.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from mlcore.distributed import deal
from mlcore.errors import ConfigError, DataError
from mlcore.protocols import RowwiseLoss
from mlcore.training.gradient_cache import kept_generators
from mlcore.training.host_memory import host_memory
from mlcore.training.strategy import Processes

if TYPE_CHECKING:
    from mlcore.experiment import Experiment

_DENSE_MATRICES = 12
"""``B x B`` matrices of float32 that a step of a loss over all pairs holds at most.

Measured with :class:`mlcore.testing.losses.memory.PeakMemory` on the 17 shipped losses that
declare quadratic memory: 9 for the median one, from 4 to 13 for all but three, which hold 21 to
56.
"""

_KEPT_AND_NEW = 3
"""Checkpoints on disk at once: two are kept while the next is written."""


@dataclass(frozen=True)
class Estimate:
    """Least number of bytes that one process of a run needs, by purpose.

    Attributes:
        weights: Parameters, their gradients and Adam's two moments.
        activations: What the graph of ``b`` images holds; 0 if it could not be measured.
        images: The batch's pixels.
        loss: The loss of ``B`` images, by the growth that its factory declares, with what is
            remembered of past batches.
        retrieval: Embeddings of the evaluation, whitened and not.
        checkpoint: Size of one checkpoint on disk.
    """

    weights: int
    activations: int
    images: int
    loss: int
    retrieval: int
    checkpoint: int

    @property
    def training(self) -> int:
        """Bytes at once while training, on the device."""
        return self.weights + self.activations + self.images + self.loss

    def __str__(self) -> str:
        """Return the parts of training in words, the largest first."""
        parts = {
            "weights and optimizer": self.weights,
            "activations": self.activations,
            "images": self.images,
            "loss": self.loss,
        }
        shown = sorted(parts.items(), key=lambda part: -part[1])
        return ", ".join(f"{name} {_size(value)}" for name, value in shown)


def estimate(experiment: Experiment) -> Estimate:
    """Estimate a run; only the graph of one image is allocated."""
    config = experiment.config
    options, sampling = config.training, config.sampling
    number = 8 if options.precision == "64-true" else 4
    trained = sum(p.numel() for p in experiment.model.parameters())
    trained += sum(p.numel() for p in getattr(experiment.loss, "parameters", list)())
    other_far = "other-far" in config.loss.factory.needs
    per_tuple = 1 + sampling.near_per_tuple + sampling.far_per_tuple + other_far
    if sampling.scheme != "tuples":
        per_tuple = sampling.images_per_place
    joint = sampling.batch_tuples * per_tuple
    share = deal(joint, Processes.of(options).count)[0]
    mine = share.stop - share.start
    size = experiment.batches.input_size
    at_once = min(mine, options.chunk_size or mine)
    dimensions = experiment.model.embedding_dim
    evaluation, references, queries = config.evaluation, 0, 0
    if options.evaluate:
        test = experiment.dataset.test
        references, queries = len(test.references), len(test.queries)
    embedded = references + queries + evaluation.whitening_images
    kept = min(dimensions, evaluation.dimensions)
    compared = joint + options.memory
    by_rows = isinstance(experiment.loss, RowwiseLoss) and experiment.miner is None
    return Estimate(
        weights=4 * trained * number,
        activations=at_once * activation_bytes(experiment.model, size) * number // 4,
        images=mine * 3 * size[0] * size[1],
        loss=options.memory * dimensions * number
        + _loss_bytes(
            config.loss.factory.memory, joint if by_rows else compared, compared, dimensions
        ),
        retrieval=4 * (embedded * dimensions + references * kept),
        checkpoint=3 * trained * number + options.memory * dimensions * number,
    )


def activation_bytes(model: nn.Module, size: tuple[int, int]) -> int:
    """Return the bytes that the graph of one image holds in float32, by embedding one.

    Gradients and the workspace of convolutions come on top. 0 where a copy of the model
    cannot embed a single image in training mode.
    """
    cpu = torch.device("cpu")
    tried = copy.deepcopy(model).to(cpu, torch.float32).train()
    own = {_storage(tensor) for tensor in (*tried.parameters(), *tried.buffers())}
    held: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        held[_storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    image = torch.zeros((1, 3, *size), dtype=torch.uint8)
    hooks = torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor)
    try:
        with kept_generators(cpu), hooks:
            embedded = tried(image)
    except (RuntimeError, ValueError):
        return 0  # for example a batch norm over a single number
    del embedded
    return sum(size for storage, size in held.items() if storage not in own)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _loss_bytes(
    growth: Literal["linear", "quadratic", "cubic"], rows: int, columns: int, dim: int
) -> int:
    """Return the bytes of a loss that compares ``rows`` images with ``columns``."""
    linear = 10 * columns * dim * 4
    if growth == "linear":
        return linear
    quadratic = linear + _DENSE_MATRICES * rows * columns * 4
    return quadratic if growth == "quadratic" else quadratic + rows * columns**2


def check_budget(experiment: Experiment, folder: Path) -> Sequence[str]:
    """Return notes on memory for the user, or refuse a run that does not fit.

    Raises:
        ConfigError: Training needs more memory than the device has.
        DataError: The disk has too little space for the checkpoints.
    """
    needed = estimate(experiment)
    _require_disk(needed, folder)
    options = experiment.config.training
    if not options.check_memory:
        return ()
    on_gpu = options.accelerator != "cpu" and torch.cuda.is_available()
    here = 1 if on_gpu else Processes.of(options).devices
    total, free = _gpu_memory() if on_gpu else host_memory()
    where = "the GPU" if on_gpu else "this machine"
    take, need = here * needed.training, f"{_size(here * needed.training)} ({needed})"
    remedy = (
        "use --training.chunk_size (the same gradient in the memory of one chunk), a smaller "
        "--sampling.tuples_per_batch or a smaller input (--model.longest_side_px)"
    )
    if take > total:
        raise ConfigError(
            f"training needs at least {need}, but {where} has {_size(total)}: {remedy}; "
            "to try anyway, use --training.check_memory false"
        )
    notes = []
    if take > free:
        notes.append(
            f"training needs at least {need}, but {where} has {_size(free)} free: {remedy}"
        )
    host_free = host_memory().free
    if needed.retrieval > host_free:
        notes.append(
            f"evaluation needs {_size(needed.retrieval)} for embeddings, but this machine "
            f"has {_size(host_free)} free: use --evaluation.spacing_m or a smaller "
            "--model.embedding_dim"
        )
    return notes


def _require_disk(needed: Estimate, folder: Path) -> None:
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free, wanted = (
        shutil.disk_usage(place).free,
        _KEPT_AND_NEW * needed.checkpoint,
    )
    if free < wanted:
        raise DataError(
            f"the disk of {folder} has {_size(free)} free, but the run needs {_size(wanted)}: "
            f"two checkpoints of {_size(needed.checkpoint)} are kept while the next is "
            "written; free some space or choose another --out"
        )


def _gpu_memory() -> tuple[int, int]:
    free, total = torch.cuda.mem_get_info()
    return total, free


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"
