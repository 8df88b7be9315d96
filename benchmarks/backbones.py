"""Backbones: parameters, embedding size, milliseconds per image, and the feature cache.

Each is built with random weights, which take as long as trained ones, and embeds images of one
size, one by one and 16 at once, with its default pooling. Some then train a projection behind
the frozen backbone, with the features of the 16 images from the cache and without.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from benchmarks import _common as common
from mlcore.models import EmbeddingModel
from mlcore.networks import build_model
from mlcore.options import RunConfig, parse_run
from mlcore.registry.discovery import Registry

DURATION = "5 minutes"

TIMM = (
    "mobilenetv3_large_100",
    "convnext_tiny",
    "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2",
)
BACKBONES = {
    **{
        name: ["--backbone", name]
        for name in ("small-cnn", "efficientnet-lite0", "resnet18", "resnet50", "vgg16")
    },
    **{f"timm {name}": ["--backbone", "timm", "--backbone.model", name] for name in TIMM},
}
FROZEN = ("small-cnn", "efficientnet-lite0", "resnet18", "timm vit_small_patch14_dinov2")
HEAD = ("--model.trainable_blocks", "none", "--model.embedding_dim", "256")
BATCH = 16


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--height", type=int, default=192, help="of the images, in pixels")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args(argv)
    names = list(BACKBONES)
    if options.quick:
        names, options.height, options.width, options.repeats = names[:2], 64, 64, 1
    size = options.height, options.width
    tables = [_embedding_table(names, size, options), _cache_table(names, size, options)]
    common.report(
        __file__,
        __doc__ or "",
        f"Images of {size[0]} x {size[1]} px (height x width), float32.\n\n"
        + "\n\n".join(tables),
        options=options,
        argv=argv,
        method=f"in turns, median [least, most] of {options.repeats} rounds after warm-up; "
        f"{torch.get_num_threads()} threads",
    )
    return 0


def _embedding_table(names: Sequence[str], size: tuple[int, int], options: Namespace) -> str:
    """Return the table of all backbones, with the time that embedding takes."""
    registry, device = Registry.discover(), torch.device(options.device)
    configs = {name: _config(BACKBONES[name], size, registry) for name in names}
    models = {name: build_model(c).to(device).eval() for name, c in configs.items()}
    images = _images(size, device)

    @torch.inference_mode()
    def embed(model: EmbeddingModel, number: int) -> None:
        model(images[:number])

    timings = {
        number: common.measure(
            {name: lambda m=model, n=number: embed(m, n) for name, model in models.items()},
            repeats=options.repeats,
            settle=True,
            synchronize=_synchronize(device),
        )
        for number in (1, BATCH)
    }
    rows = [
        (
            name,
            configs[name].pooling.name,
            f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M",
            f"{model.embedding_dim:,}",
            timings[1][name],
            f"{1e3 * timings[BATCH][name].median / BATCH:.1f} ms",
        )
        for name, model in models.items()
    ]
    columns = (
        "backbone",
        "pooling",
        "parameters",
        "embedding size",
        "one image",
        f"per image of {BATCH}",
    )
    return common.markdown_table(columns, rows)


def _cache_table(names: Sequence[str], size: tuple[int, int], options: Namespace) -> str:
    """Return images per second of a step that trains the projection alone."""
    registry, device = Registry.discover(), torch.device(options.device)
    frozen = [name for name in names if name in FROZEN]
    images = _images(size, device)
    steps = {}
    for name in frozen:
        for mib in ("1024", "0"):
            words = [*BACKBONES[name], *HEAD, "--model.feature_cache_mib", mib]
            model = build_model(_config(words, size, registry)).to(device).train()
            steps[f"{name} {mib}"] = lambda m=model: m(images).sum().backward()
    timings = common.measure(steps, repeats=options.repeats, synchronize=_synchronize(device))

    def rate(name: str, mib: str) -> str:
        return f"{BATCH / timings[f'{name} {mib}'].median:,.0f} images/s"

    rows = [(name, rate(name, "1024"), rate(name, "0")) for name in frozen]
    columns = ("frozen backbone, trained projection", "from the cache", "without it")
    return common.markdown_table(columns, rows)


def _images(size: tuple[int, int], device: torch.device) -> Tensor:
    return torch.randint(256, (BATCH, 3, *size), dtype=torch.uint8, device=device)


def _synchronize(device: torch.device) -> Callable[[], object] | None:
    return torch.cuda.synchronize if device.type == "cuda" else None


def _config(words: Sequence[str], size: tuple[int, int], registry: Registry) -> RunConfig:
    height, width = map(str, size)
    sized = ["--model.input_height_px", height, "--model.input_width_px", width]
    return parse_run([*words, *sized, "--model.weights", "none"], registry)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
