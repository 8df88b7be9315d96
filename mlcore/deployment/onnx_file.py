"""A trained network as an ONNX file that takes pixels and gives whitened embeddings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mlcore.deployment.graph import EmbeddingGraph
from mlcore.errors import ConfigError
from mlcore.files import atomic_write

OPSET = 18
TOLERANCE = 1e-4
"""Largest difference between an embedding of ONNX Runtime and of torch, by its length."""


def write_onnx(path: Path, graph: EmbeddingGraph, metadata: Mapping[str, str]) -> None:
    """Write a graph with input ``image`` and output ``embedding``, and check ONNX's rules.

    Batch, height and width are dynamic. Weights lie inside the file.

    Args:
        path: File to write.
        graph: What is exported; on the CPU.
        metadata: Written into the file's own metadata.

    Raises:
        ConfigError: The network has an operation that cannot be exported; names it.
    """
    import onnx

    shape = (2, 70, 90, 3) if graph.channels_last else (2, 3, 70, 90)
    sizes = {0: torch.export.Dim("B")}
    for axis, name in zip((1, 2) if graph.channels_last else (2, 3), ("H", "W"), strict=True):
        sizes[axis] = torch.export.Dim(name)
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (torch.zeros(shape, dtype=torch.uint8),),
                dynamo=True,
                input_names=["image"],
                output_names=["embedding"],
                dynamic_shapes={"image": sizes},
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"the network cannot be exported to ONNX: {reason[0]}; torch.onnx does not know "
            "one of its operations, or the network branches on the values of a tensor"
        ) from error
    assert program is not None, "with dynamo=True an export returns its program"
    model = program.model_proto
    for name, value in metadata.items():
        model.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(model)
    with atomic_write(path) as file:
        file.write(model.SerializeToString())


def measure_parity(path: Path, graph: EmbeddingGraph, images: Sequence[Tensor]) -> float:
    """Return how far ONNX Runtime's embeddings are from torch's, at most, by their length.

    Args:
        path: What :func:`write_onnx` wrote.
        graph: What it wrote.
        images: uint8 ``(3, H, W)`` of any sizes.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for image in images:
        batch = image[None].permute(0, 2, 3, 1) if graph.channels_last else image[None]
        batch = batch.contiguous()
        with torch.inference_mode():
            expected = graph(batch).numpy()
        (actual,) = session.run(["embedding"], {"image": batch.numpy()})
        length = max(float(np.linalg.norm(expected)), 1e-12)
        worst = max(worst, float(np.linalg.norm(actual - expected)) / length)
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's advice to its own developers, but no error."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
