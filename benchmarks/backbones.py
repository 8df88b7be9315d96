"""Backbones: parameters, embedding size, milliseconds per image, and the feature cache.

Each is built with random weights, which take as long as trained ones, and embeds images of one
size, one by one and 16 at once, with its default pooling. Some then train a projection behind
the frozen backbone, with the features of the 16 images from the cache and without.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import torch

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
    registry, device = Registry.discover(), torch.device(options.device)
    size = options.height, options.width
    synchronize = torch.cuda.synchronize if device.type == "cuda" else None
    configs = {name: _config(BACKBONES[name], size, registry) for name in names}
    models = {name: build_model(c).to(device).eval() for name, c in configs.items()}
    images = torch.randint(256, (BATCH, 3, *size), dtype=torch.uint8, device=device)

    @torch.inference_mode()
    def embed(model: EmbeddingModel, number: int) -> None:
        model(images[:number])

    timings = {
        number: common.measure(
            {name: lambda m=model, n=number: embed(m, n) for name, model in models.items()},
            repeats=options.repeats,
            settle=True,
            synchronize=synchronize,
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
    title = f"Images of {size[0]} x {size[1]} px (height x width), float32.\n\n"
    heads = {}
    for name in (name for name in names if name in FROZEN):
        for mib in ("1024", "0"):
            words = [*BACKBONES[name], *HEAD, "--model.feature_cache_mib", mib]
            heads[name, mib] = build_model(_config(words, size, registry)).to(device).train()

    def step(model: EmbeddingModel) -> None:
        model(images).sum().backward()

    steps = common.measure(
        {str(key): lambda m=model: step(m) for key, model in heads.items()},
        repeats=options.repeats,
        synchronize=synchronize,
    )
    common.report(
        __file__,
        __doc__ or "",
        title + common.markdown_table(columns, rows) + _cache_table(steps, names),
        options=options,
        argv=argv,
        method=f"in turns, median [least, most] of {options.repeats} rounds after warm-up; "
        f"{torch.get_num_threads()} threads",
    )
    return 0


def _cache_table(steps: Mapping[str, common.Timing], names: Sequence[str]) -> str:
    """Return images per second of a step that trains the projection alone."""

    def rate(name: str, mib: str) -> str:
        return f"{BATCH / steps[str((name, mib))].median:,.0f} images/s"

    rows = [(name, rate(name, "1024"), rate(name, "0")) for name in names if name in FROZEN]
    columns = ("frozen backbone, trained projection", "from the cache", "without it")
    return "\n\n" + common.markdown_table(columns, rows)


def _config(words: Sequence[str], size: tuple[int, int], registry: Registry) -> RunConfig:
    height, width = map(str, size)
    sized = ["--model.input_height_px", height, "--model.input_width_px", width]
    return parse_run([*words, *sized, "--model.weights", "none"], registry)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
