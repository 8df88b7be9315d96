"""Model, miner and loss as one thing that Lightning optimizes."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from mlcore.distributed import (
    exchange,
    join_rows,
    largest_over_processes,
    num_processes,
    sum_over_processes,
)
from mlcore.errors import DataError, FailedElsewhereError, MlcoreError, NonFiniteLossError
from mlcore.options.config import attribute_errors, known_limits
from mlcore.run_folder import require_same_shapes
from mlcore.sampling.batches import TrainingBatch, TrainingLoader
from mlcore.seeding import derive_seed
from mlcore.training.cross_batch import Memory, after_batch
from mlcore.training.gradient_cache import (
    EmbeddedImages,
    InChunks,
    NoImages,
    WithGraph,
    freeze_batch_norms,
)
from mlcore.training.joint import (
    JointLoss,
    add_up_gradients,
    earlier_gradients_aside,
    embedding_gradient,
    joint_loss,
)
from mlcore.training.mining import mined
from mlcore.training.optimizers import build_optimizer
from mlcore.training.replay import keep_batch
from mlcore.training.schedule import learning_rate_factor

if TYPE_CHECKING:
    from mlcore.experiment import Experiment


_MEMORY = "memory"
"""Key of a checkpoint: embeddings of past batches."""


class _Step(NamedTuple):
    """State that the backward pass of a step needs from its forward pass.

    Attributes:
        item: This process's share of the batch.
        embedded: Its images, waiting for their gradient.
        rows: Their rows in the joint batch.
        leaf: ``(B, D)``, all embeddings, where the loss's graph ends.
        in_shares: Whether this process computed a share of the loss.
        memory: What the batch was compared with beside itself.
    """

    item: TrainingBatch
    embedded: EmbeddedImages
    rows: slice
    leaf: Tensor
    in_shares: bool
    memory: Memory | None


class EmbeddingTask(pl.LightningModule):
    """Model, miner and loss as one thing to optimize.

    Under several processes each embeds its share of the images; the loss is that of the
    joint batch, and so is the gradient: see :mod:`mlcore.training.joint`.

    Args:
        experiment: The assembled run.
        start_step: Optimizer steps already taken.
        failed_batch: Where to save a batch whose loss is not finite; None: nowhere.

    Attributes:
        row: Numbers of the last step: loss, learning rate, the loss's own; means over its
            batches.
        completes_step: Whether an optimizer step followed the last batch.
        spread: Mean distance of the last batch's embeddings from their mean, relative to
            their mean length; 0 where all images have one embedding.
    """

    def __init__(
        self, experiment: Experiment, start_step: int = 0, failed_batch: Path | None = None
    ) -> None:
        super().__init__()
        self.model = experiment.model
        self.loss = experiment.loss
        self.miner = experiment.miner
        self._experiment = experiment
        self._options = experiment.config.training
        self._start_step = start_step
        self._failed_batch = failed_batch
        self._seed = derive_seed(experiment.config.seed, "training")
        self._step: _Step
        self._memory: Memory | None = None
        self.row: dict[str, Tensor | float] = {}
        self.completes_step = True
        self.spread = math.inf

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another model or loss.

        Raises:
            DataError: Names or shapes of its weights are not those of this run.
        """
        require_same_shapes(self.state_dict(), checkpoint["state_dict"], "the checkpoint")
        if self._options.memory and _MEMORY in checkpoint:
            self._memory = Memory.from_state(checkpoint[_MEMORY])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save what is remembered of past batches."""
        if self._memory is not None:
            checkpoint[_MEMORY] = self._memory.state_dict()

    def train_dataloader(self) -> TrainingLoader:
        """Return this process's share of the batches, from the step where training starts."""
        return TrainingLoader(
            self._experiment.batches,
            start_step=self._start_step * self._options.accumulate,
            num_steps=self._options.max_steps * self._options.accumulate,
            num_workers=self._options.num_workers,
            rank=self.trainer.global_rank,
            count=self.trainer.world_size,
        )

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of the images that no process could read in the last step."""
        return self._step.item.skipped

    def train(self, mode: bool = True) -> EmbeddingTask:
        """Set training mode, in which frozen batch norms stay as they are."""
        super().train(mode)
        if mode and self._options.batch_norm == "frozen":
            freeze_batch_norms(self)
        return self

    def transfer_batch_to_device(
        self, batch: TrainingBatch, device: torch.device, dataloader_idx: int
    ) -> TrainingBatch:
        """Move a batch to the device; images that go there in chunks stay for now."""
        images = batch.images
        if self._options.chunk_size:
            batch = batch._replace(images=images[:0])
        batch = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return batch._replace(images=images) if self._options.chunk_size else batch

    def training_step(self, item: TrainingBatch, step: int) -> Tensor:
        """Return this process's part of the loss: embed, join, mine, compare."""
        item, sizes = self._agree(item)
        # All draws of a step are a function of the seed, the step and the process.
        torch.manual_seed(derive_seed(self._seed, "images", item.step, self.global_rank))
        embedded = self._embed(item.images)
        embeddings = join_rows(embedded.embeddings, sizes)
        self._stop_if_not_finite(embeddings.sum(), "an embedding", item, self._memory)
        self.spread = _spread(embeddings)
        torch.manual_seed(derive_seed(self._seed, "loss", item.step))
        leaf = embeddings.requires_grad_()
        with torch.autocast(self.device.type, enabled=False):
            output = self._compare(leaf, item)
        self._stop_if_not_finite(output.total, "the loss", item, self._memory)
        start = sum(sizes[: self.global_rank])
        rows = slice(start, start + len(item.slots))
        self._step = _Step(item, embedded, rows, leaf, output.in_shares, self._memory)
        self._record(output, item)
        if item.step >= self._options.memory_start * self._options.accumulate:
            size = self._options.memory
            self._memory = after_batch(self._memory, leaf.detach(), item.batch, size)
        return output.mine

    def backward(self, loss: Tensor, *_: Any, **__: Any) -> None:
        """Differentiate: the loss to the embeddings, these to the network, all added up."""
        step = self._step
        with earlier_gradients_aside(self.model, self.loss):  # type: ignore[arg-type]
            loss.backward()  # type: ignore[no-untyped-call]
            gradient = embedding_gradient(step.leaf, step.in_shares)
            step.embedded.backward(gradient[step.rows])
            add_up_gradients(self.model, self.loss, step.in_shares)  # type: ignore[arg-type]

    def _agree(self, item: TrainingBatch) -> tuple[TrainingBatch, list[int]]:
        """Return the batch without unreadable images, and the sizes of the shares."""
        if num_processes() == 1:
            return item, [len(item.slots)]
        troubled = bool(item.failure) or len(item.unreadable) > 0
        flag = torch.tensor([troubled], dtype=torch.int32, device=self.device)
        if largest_over_processes(flag).item():
            item = self._without_unreadable(item)
        counts = torch.zeros(num_processes() + 1, dtype=torch.int64, device=self.device)
        counts[self.global_rank] = len(item.slots)
        counts[-1] = item.num_letterboxed
        *sizes, num_letterboxed = sum_over_processes(counts).tolist()
        return item._replace(num_letterboxed=num_letterboxed), sizes

    def _without_unreadable(self, item: TrainingBatch) -> TrainingBatch:
        """Leave out of the batch what any process could not read; plan anew if nothing is left.

        All processes see the same places and names, and so decide the same.
        """
        batches = self._experiment.batches
        skipped: tuple[str, ...] = ()
        while True:
            found = exchange((item.failure, item.unreadable.tolist(), item.skipped))
            for failure, _, _ in found:
                if failure:
                    self._fail(DataError(failure))
            skipped += tuple(name for _, _, names in found for name in names)
            ranks = range(len(found))
            elsewhere = [s for r in ranks if r != self.global_rank for s in found[r][1]]
            try:
                lost = batches.is_lost(item, elsewhere)
            except DataError as error:
                self._fail(error)
            if not lost:
                return batches.without(item, elsewhere)._replace(skipped=skipped)
            again = batches.share(item.step, self.global_rank, len(found), item.attempt + 1)
            item = self.transfer_batch_to_device(again, self.device, 0)

    def _embed(self, images: Tensor) -> EmbeddedImages:
        if not len(images):
            return NoImages(self.model.embedding_dim, next(self.model.parameters()))
        if not self._options.chunk_size:
            return WithGraph(self.model, images)
        return InChunks(
            self.model, images, self._options.chunk_size, self.device, self._precision
        )

    def _precision(self) -> AbstractContextManager[Any]:
        return self.trainer.strategy.precision_plugin.train_step_context()

    def _compare(self, embeddings: Tensor, item: TrainingBatch) -> JointLoss:
        """Return the loss of all embeddings ``(B, D)``, compared with those remembered too."""
        batch, num_current = item.batch, len(item.batch)
        if self._memory is not None:
            embeddings, batch = self._memory.behind(embeddings, batch)
        tuples = mined(
            self._experiment, embeddings.detach(), batch, item.step, num_current=num_current
        )
        with attribute_errors(
            self._experiment.config.loss, f"failed at step {self.global_step}"
        ):
            return joint_loss(self.loss, embeddings, batch, tuples, num_current)

    def _record(self, output: JointLoss, item: TrainingBatch) -> None:
        stats = {f"loss/{k}": v for k, v in output.stats.items() if not isinstance(v, str)}
        row = {
            "loss": output.total.to(output.mine.dtype),
            "learning_rate": self.optimizers().param_groups[0]["lr"],  # type: ignore[union-attr]
            "letterboxed": float(item.num_letterboxed),
            **self._remembered(),
            **stats,
        }
        earlier = item.step % self._options.accumulate  # batches of this step so far
        if earlier:
            row = {
                name: (self.row.get(name, value) * earlier + value) / (earlier + 1)
                for name, value in row.items()
            }
        self.row = row
        self.completes_step = earlier + 1 == self._options.accumulate
        self.log_dict({name: float(value) for name, value in self.row.items()})

    def _remembered(self) -> dict[str, float]:
        """Return the number of remembered images as a number of the step."""
        if not self._options.memory:
            return {}
        return {"remembered": float(len(self._step.memory or ()))}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before a step that would write NaN into the weights."""
        if self._options.precision == "16-mixed":
            return  # the gradient scaler expects overflow and skips such a step itself
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._stop_if_not_finite(norm, "the gradient", self._step.item, self._step.memory)

    def _stop_if_not_finite(
        self, value: Tensor, what: str, item: TrainingBatch, memory: Memory | None
    ) -> None:
        if torch.isfinite(value):
            return  # the same in every process, so that all stop or none
        loss, dataset = self._experiment.config.loss, self._experiment.dataset
        images = [dataset.image_name(int(index)) for index in item.batch.index]
        shown = ", ".join(images[:5]) + (
            f" and {len(images) - 5} more" if len(images) > 5 else ""
        )
        message = (
            f"{what} of {loss.name!r} is {float(value.detach())} at step {item.step}, before "
            f"the optimizer step; images: {shown}.{known_limits(loss)} Try a smaller "
            "--training.learning_rate"
        )
        self._fail(NonFiniteLossError(message + self._keep(item, memory, message)))

    def _keep(self, item: TrainingBatch, memory: Memory | None, message: str) -> str:
        """Keep the whole batch for reproduction; return the end of the message."""
        path = self._failed_batch
        if path is None or self.global_rank != 0:
            return ""
        try:
            whole = item if num_processes() == 1 else self._experiment.batches[item.step]
            keep_batch(path, self._experiment, whole, memory, message)
        except OSError as error:
            return f". The batch could not be saved for reproduction: {error}"
        return f", or look at the batch: mlcore reproduce {path.parent}"

    def _fail(self, error: MlcoreError) -> NoReturn:
        """Stop for a reason known to every process."""
        raise error if self.global_rank == 0 else FailedElsewhereError(str(error))

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the model and the loss, and its schedule."""
        options = self._options
        optimizer = build_optimizer(self.model, self.loss, options)  # type: ignore[arg-type]
        steps = math.ceil(self._experiment.planner.steps_per_epoch / options.accumulate)
        factor = learning_rate_factor(options, steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def _spread(embeddings: Tensor) -> float:
    """Return how far embeddings ``(B, D)`` are from their mean, relative to their length."""
    if len(embeddings) < 2:
        return math.inf
    distance = (embeddings - embeddings.mean(dim=0)).norm(dim=1).mean()
    return float(distance / embeddings.norm(dim=1).mean().clamp_min(1e-30))
