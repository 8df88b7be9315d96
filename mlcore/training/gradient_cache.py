"""Embed a batch so that loss and network are differentiated one after the other.

To differentiate the network for one image, only the gradient of the loss with respect to its
embedding is needed. So a batch of any size can be embedded without a graph, and embedded again
chunk by chunk once that gradient is known (GradCache: Gao, Zhang, Han, Callan, Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup, 2021, section 3).

Shapes: ``b`` images, ``D`` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Model = Callable[[Tensor], Tensor]


class EmbeddedImages(Protocol):
    """Embeddings of images that wait for their gradient.

    Attributes:
        embeddings: ``(b, D)``, detached, float32 or float64.
    """

    @property
    def embeddings(self) -> Tensor: ...

    def backward(self, gradient: Tensor) -> None:
        """Add to the parameters' gradients, given the embeddings' own ``(b, D)``."""
        ...


class WithGraph:
    """Images embedded at once, their graph kept: a plain step.

    Args:
        model: Maps images to embeddings.
        images: ``(b, 3, H, W)``, on the model's device.
    """

    def __init__(self, model: Model, images: Tensor) -> None:
        self._output = _at_least_float32(model(images))
        self.embeddings = self._output.detach()

    def backward(self, gradient: Tensor) -> None:
        """Differentiate the network."""
        self._output.backward(gradient)  # type: ignore[no-untyped-call]


class InChunks:
    """Images embedded without a graph, and chunk by chunk again when the gradient is known.

    Random numbers (dropout) are the same in both passes: each chunk stores the state of the
    generators at its start. Memory: the activations of one chunk, the images on whatever device
    they are, and ``b D`` floats.

    Args:
        model: Maps images to embeddings, each independent of the others.
        images: ``(b, 3, H, W)``; each chunk is moved to ``device`` by itself.
        chunk_size: Images with a graph at once.
        device: Where the model is.
        precision: Makes the context (autocast) that the second pass runs in; the first
            one runs in the caller's.
    """

    def __init__(
        self,
        model: Model,
        images: Tensor,
        chunk_size: int,
        device: torch.device,
        precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._model, self._images, self._device = model, images, device
        self._chunk_size, self._precision = chunk_size, precision
        self._starts: list[Generators] = []
        parts = []
        for chunk in self._chunks():
            self._starts.append(Generators.now(device))
            with torch.no_grad():
                parts.append(_at_least_float32(model(chunk)))
        self.embeddings = torch.cat(parts)

    def backward(self, gradient: Tensor) -> None:
        """Embed each chunk again, this time with a graph, and differentiate it."""
        parts = torch.split(gradient, self._chunk_size)
        with kept_generators(self._device):
            for start, chunk, part in zip(self._starts, self._chunks(), parts, strict=True):
                start.restore()
                with self._precision():
                    embeddings = _at_least_float32(self._model(chunk))
                embeddings.backward(part)  # type: ignore[no-untyped-call]

    def _chunks(self) -> Iterator[Tensor]:
        for chunk in torch.split(self._images, self._chunk_size):
            yield chunk.to(self._device, non_blocking=True)


class NoImages:
    """No image at all: a process's share of a very small batch.

    Args:
        embedding_dim: ``D``.
        like: A parameter of the model, for device and dtype.
    """

    def __init__(self, embedding_dim: int, like: Tensor) -> None:
        self.embeddings = _at_least_float32(like.detach().new_zeros((0, embedding_dim)))

    def backward(self, gradient: Tensor) -> None:
        """Do nothing."""


class Generators(NamedTuple):
    """The state of the generators that a network may draw from.

    Attributes:
        cpu: The main generator's.
        cuda: That of the model's device; None on the CPU.
        device: The model's.
    """

    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @classmethod
    def now(cls, device: torch.device) -> Generators:
        """Return the current state."""
        on_gpu = device.type == "cuda"
        cuda = torch.cuda.get_rng_state(device) if on_gpu else None
        return cls(torch.get_rng_state(), cuda, device)

    def restore(self) -> None:
        """Restore it."""
        torch.set_rng_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)


@contextmanager
def kept_generators(device: torch.device) -> Iterator[None]:
    """Leave the generators as they were."""
    before = Generators.now(device)
    try:
        yield
    finally:
        before.restore()


def batch_norms(model: nn.Module) -> Mapping[str, _BatchNorm]:
    """Return the batch-norm layers of a model by name."""
    layers = model.named_modules()
    return {name: layer for name, layer in layers if isinstance(layer, _BatchNorm)}


def live_batch_norms(model: nn.Module) -> list[str]:
    """Return the names of layers that normalise by statistics of the batch in training."""
    return [
        name
        for name, layer in batch_norms(model).items()
        if layer.training or not layer.track_running_stats
    ]


def freeze_batch_norms(model: nn.Module) -> None:
    """Make batch norms use, and keep, the statistics that come with the weights."""
    for layer in batch_norms(model).values():
        layer.eval()


def _at_least_float32(embeddings: Tensor) -> Tensor:
    """The loss is in float32 or better, whatever the model runs in."""
    return embeddings if embeddings.dtype == torch.float64 else embeddings.float()
