"""ONNX files against the networks they were exported from: backbones with every pooling.

Networks have random weights and whitening. The figure is the largest distance between two
embeddings of an image, relative to their length, over images of seven sizes, each alone and in
a batch of two; ``mlcore export`` refuses to write a file above 1e-4.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks import _common as common
from mlcore.deployment.graph import EmbeddingGraph
from mlcore.deployment.model_folder import load_model, save_model
from mlcore.deployment.onnx_file import onnx_runner, to_onnx
from mlcore.deployment.parity import TOLERANCE, made_images, measure_parity
from mlcore.errors import ConfigError
from mlcore.factories import PoolingFactory
from mlcore.networks import build_model
from mlcore.options import read_argv, resolve_run
from mlcore.registry.discovery import Registry
from mlcore.retrieval.whitening import fit_whitening

DURATION = "10 minutes"

SMALL = ["--model.input_height_px", "112", "--model.input_width_px", "112"]
BACKBONES = {
    "small-cnn": ["--backbone", "small-cnn"],
    "VGG16": ["--backbone", "vgg16"],
    "timm: test_efficientnet": ["--backbone", "timm", "--backbone.model", "test_efficientnet"],
    "timm: test_vit": ["--backbone", "timm", "--backbone.model", "test_vit"],
}
POOLINGS = {"salad": ["--pooling.num_clusters", "8"]}
"""Options where the defaults need larger images."""
NAMED = {
    "EfficientNet-Lite0": [["--backbone", "efficientnet-lite0"], "gem"],
    "ResNet-18": [["--backbone", "resnet18"], "gem"],
}


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a file differs by more than an export allows."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    torch.set_num_threads(1)
    rows, worst = [], 0.0
    for name, pooling, words in _networks(quick=options.quick):
        found = _difference(words)
        print(f"{name}, {pooling}: {found}", file=sys.stderr)
        worst = max(worst, found if isinstance(found, float) else 0.0)
        shown = f"{found:.1e}" if isinstance(found, float) else f"not built: {found}"
        rows.append((name, pooling, shown))
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(("backbone", "pooling", "largest difference"), rows),
        options=options,
        argv=argv,
        method="no timing; ONNX Runtime on the CPU",
    )
    return int(worst > TOLERANCE)


def _networks(*, quick: bool) -> Iterator[tuple[str, str, list[str]]]:
    """Yield backbone, pooling and options of each network."""
    poolings = [f.name for _, f in Registry.discover().factories(PoolingFactory)]
    backbones = BACKBONES
    if quick:
        poolings = ["gem"]
        backbones = {name: BACKBONES[name] for name in ("small-cnn", "timm: test_vit")}
    for name, words in backbones.items():
        for pooling in poolings:
            yield name, pooling, [*words, "--pooling", pooling, *POOLINGS.get(pooling, ())]
    for name, (words, pooling) in {} if quick else NAMED.items():
        yield name, pooling, [*words, "--pooling", pooling]


def _difference(words: Sequence[str]) -> float | str:
    """Return how far the file is from the network, or why there is no such network."""
    torch.manual_seed(0)
    registry = Registry.discover()
    try:
        config = resolve_run(read_argv([*words, "--model.weights", "none", *SMALL]), registry)
        network = build_model(config)
    except ConfigError as error:
        return str(error).partition(";")[0]
    sample = np.random.default_rng(0).normal(size=(300, network.embedding_dim))
    whitening = fit_whitening(
        (sample / np.sqrt(network.embedding_dim)).astype(np.float32), 64, source="train"
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        save_model(
            path,
            network,
            config,
            whitening,
            confidence=None,
            run="parity",
            step=0,
            data_fingerprint="",
        )
        model = load_model(path, registry)
    size = model.info.input_size
    graph = EmbeddingGraph(model.network, size, model.whitening)
    run = onnx_runner(to_onnx(graph, {}))
    return measure_parity(run, model, made_images(), channels_last=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
