"""Save a batch whose loss was not finite, with the weights, and replay it.

Shapes: ``B`` images in the batch, ``D`` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mlcore.errors import DataError
from mlcore.files import atomic_write
from mlcore.protocols import Batch
from mlcore.seeding import derive_seed
from mlcore.training.cross_batch import Memory
from mlcore.training.joint import joint_loss
from mlcore.training.mining import mined

if TYPE_CHECKING:
    from mlcore.experiment import Experiment
    from mlcore.sampling.batches import TrainingBatch


@dataclass(frozen=True)
class Replay:
    """The result of replaying a batch.

    Attributes:
        step: The optimizer step it was drawn for, from 0.
        message: Error message of the run.
        bad_images: Names of images whose embedding is not finite.
        loss: Value of the loss.
        stats: Statistics of the loss.
        bad_gradients: Names of images for whose embeddings the gradient is not finite.
        bad_parameters: Names of parameters whose gradient is not finite.
    """

    step: int
    message: str
    bad_images: tuple[str, ...]
    loss: float
    stats: dict[str, float | str]
    bad_gradients: tuple[str, ...]
    bad_parameters: tuple[str, ...]

    @property
    def reproduced(self) -> bool:
        """Whether something was not finite."""
        finite = torch.isfinite(torch.tensor(self.loss)).item()
        return bool(not finite or self.bad_images or self.bad_gradients or self.bad_parameters)


def keep_batch(
    path: Path,
    experiment: Experiment,
    item: TrainingBatch,
    memory: Memory | None,
    message: str,
) -> None:
    """Write the batch of a failed step, and the weights before it, to ``path``.

    Args:
        path: The file.
        experiment: The run.
        item: The whole batch.
        memory: What it was compared with beside itself.
        message: Error message of the run.

    Raises:
        OSError: It cannot be written.
    """
    columns = {field.name: getattr(item.batch, field.name) for field in fields(Batch)}
    kept = {
        "step": item.step,
        "message": message,
        "images": item.images.cpu(),
        "batch": _on_cpu(columns),
        "model": _on_cpu(experiment.model.state_dict()),
        "loss": _on_cpu(getattr(experiment.loss, "state_dict", dict)()),
        "memory": None if memory is None else _on_cpu(memory.state_dict()),
    }
    with atomic_write(path) as file:
        torch.save(kept, file)


def replay(experiment: Experiment, path: Path, device: torch.device) -> Replay:
    """Run the saved batch through the saved model and loss, and differentiate.

    In one process and without chunks, but in the run's precision.

    Raises:
        DataError: The file is missing, damaged, or of another model or loss.
    """
    kept = _load(path)
    _load_weights(experiment, kept, path)
    double = experiment.config.training.precision == "64-true"
    model = experiment.model.to(device, torch.float64 if double else torch.float32).train()
    loss: Any = experiment.loss
    if isinstance(loss, torch.nn.Module):
        loss = loss.to(device, torch.float64 if double else torch.float32).train()
    batch = Batch(**kept["batch"]).to(device)
    seed = derive_seed(experiment.config.seed, "training")
    torch.manual_seed(derive_seed(seed, "images", kept["step"], 0))
    with _precision(experiment.config.training.precision, device):
        embeddings = model(kept["images"].to(device))
    embeddings = embeddings if double else embeddings.float()
    torch.manual_seed(derive_seed(seed, "loss", kept["step"]))
    leaf = embeddings.detach().requires_grad_()
    compared, all_images, num_current = leaf, batch, len(batch)
    if kept.get("memory"):  # runs of earlier versions have none
        compared, all_images = Memory.from_state(kept["memory"]).behind(leaf, batch)
    tuples = mined(experiment, compared.detach(), all_images, kept["step"], num_current)
    output = joint_loss(loss, compared, all_images, tuples, num_current)
    output.mine.backward()  # type: ignore[no-untyped-call]
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    embeddings.backward(gradient)
    names = [experiment.dataset.image_name(int(index)) for index in batch.index]
    parameters = [*model.named_parameters("model"), *loss.named_parameters("loss")]
    return Replay(
        step=kept["step"],
        message=kept["message"],
        bad_images=_of_bad_rows(embeddings, names),
        loss=float(output.total),
        stats={k: v if isinstance(v, str) else float(v) for k, v in output.stats.items()},
        bad_gradients=_of_bad_rows(gradient, names),
        bad_parameters=tuple(
            name for name, p in parameters if p.grad is not None and not p.grad.isfinite().all()
        ),
    )


def _of_bad_rows(values: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    bad = (~values.detach().isfinite()).any(dim=1).nonzero()[:, 0].tolist()
    return tuple(names[row] for row in bad)


def _precision(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if not precision.endswith("-mixed"):
        return nullcontext()
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float16
    return torch.autocast(device.type, dtype)


def _load(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise DataError(
            f"{path} does not exist: the loss of this run was finite at every step, or the "
            "disk was full when it was not"
        )
    try:
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return kept


def _load_weights(experiment: Experiment, kept: dict[str, Any], path: Path) -> None:
    loss: Any = experiment.loss
    try:
        experiment.model.load_state_dict(kept["model"])
        if hasattr(loss, "load_state_dict"):
            loss.load_state_dict(kept["loss"])
    except RuntimeError as error:
        raise DataError(f"{path} does not fit the model or loss of the run: {error}") from error


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if hasattr(value, "items"):
        return {name: _on_cpu(item) for name, item in value.items()}
    return value
