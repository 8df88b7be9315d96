"""A trained network as an ONNX file that takes pixels and gives whitened embeddings."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.deployment.graph import EmbeddingGraph
from mlcore.deployment.parity import Runner
from mlcore.errors import ConfigError

OPSET = 18


def to_onnx(graph: EmbeddingGraph, metadata: Mapping[str, str]) -> bytes:
    """Return a file with input ``image`` and output ``embedding`` that keeps ONNX's rules.

    Batch, height and width are dynamic. Weights lie inside the file.

    Args:
        graph: What is exported; on the CPU.
        metadata: Written into the file's own metadata.

    Raises:
        ConfigError: The network has an operation that cannot be exported; names it.
    """
    import onnx

    image, sizes = graph.example()
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                (image,),
                dynamo=True,
                input_names=["image"],
                output_names=["embedding"],
                dynamic_shapes={"image": sizes},
                opset_version=OPSET,
                verbose=False,
            )
            assert program is not None, "with dynamo=True an export returns its program"
            model = program.model_proto
            for name, value in metadata.items():
                model.metadata_props.add(key=name, value=value)
            onnx.checker.check_model(model)
            content: bytes = model.SerializeToString()
    except Exception as error:
        raise ConfigError(
            f"the network cannot be exported to ONNX: {reason_of(error)}; torch.onnx does not "
            "know one of its operations, or the network branches on the values of a tensor"
        ) from error
    return content


def onnx_runner(content: bytes) -> Runner:
    """Return what embeds a batch by ONNX Runtime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(image: NDArray[np.uint8]) -> NDArray[np.float32]:
        (embedding,) = session.run(["embedding"], {"image": image})
        result: NDArray[np.float32] = embedding
        return result

    return run


def reason_of(error: Exception) -> str:
    """Return the first line of an exporter's long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


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
