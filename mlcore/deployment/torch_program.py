"""A trained network as a ``torch.export`` program, which needs torch and none of mlcore."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.deployment.graph import EmbeddingGraph
from mlcore.deployment.onnx_file import reason_of
from mlcore.deployment.parity import Runner
from mlcore.errors import ConfigError


def to_torch_program(graph: EmbeddingGraph, metadata: Mapping[str, str]) -> bytes:
    """Return the content of a ``.pt2`` file for ``torch.export.load``.

    Batch, height and width are dynamic.

    Args:
        graph: What is exported; on the CPU.
        metadata: Kept as extra files of these names.

    Raises:
        ConfigError: The network has an operation that cannot be exported; names it.
    """
    image, sizes = graph.example()
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, (image,), dynamic_shapes={"image": sizes})
            torch.export.save(program, file, extra_files=dict(metadata))
    except Exception as error:
        raise ConfigError(
            f"the network cannot be exported by torch.export: {reason_of(error)}; it probably "
            "branches on the values of a tensor"
        ) from error
    return file.getvalue()


def torch_runner(content: bytes) -> Runner:
    """Return what embeds a batch with the program, on the CPU."""
    module = torch.export.load(io.BytesIO(content)).module()

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            embedding: NDArray[np.float32] = module(torch.from_numpy(image)).numpy()
        return embedding

    return run
