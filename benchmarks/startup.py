"""How long the command line takes to answer, and a trained model to embed its first image.

Each row is a fresh process, with compiled bytecode on disk. Its processor time is what it takes
on an idle machine; a busy one inflates it, importing torch as well. Some rows have 50 more
plugins installed, each a distribution of its own with one loss. Networks have random weights,
are opened from a map of a few photographs, and take 224 x 224 px.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks import _common as common
from mlcore.deployment.indexing import embed_parts, images_of_folder
from mlcore.deployment.map_folder import MapFolder
from mlcore.deployment.model_folder import load_model, save_model
from mlcore.networks import build_model
from mlcore.options import parse_run
from mlcore.protocols import no_progress
from mlcore.registry.discovery import Registry

DURATION = "5 minutes"
NUM_PLUGINS = 50
NUM_REFERENCES = 4

EMPTY = "python -c pass"
TORCH = "python -c 'import torch'"
TIMM = "python -c 'import torch, timm'"
COMMANDS = {
    EMPTY: ("-c", "pass"),
    TORCH: ("-c", "import torch"),
    TIMM: ("-c", "import torch, timm"),
    "mlcore --help": ("-m", "mlcore", "--help"),
    "mlcore plugins": ("-m", "mlcore", "plugins"),
    "mlcore list losses": ("-m", "mlcore", "list", "losses"),
}

_NETWORKS = {
    "small-cnn": ("small-cnn", "gem", ()),
    "VGG16-NetVLAD": ("vgg16", "netvlad", ()),
    "ResNet-18": ("resnet18", "gem", ()),
    "EfficientNet-Lite0": ("efficientnet-lite0", "gem", ()),
    "timm: ViT-S/16": ("timm", "cls", ("--backbone.model", "vit_small_patch16_224")),
}
_QUICK = ("small-cnn",)
Process = tuple[tuple[str, ...], Mapping[str, str]]
"""The arguments of Python, and what is added to the environment."""

_LOCALIZED = ("small-cnn", "EfficientNet-Lite0")
_EMBED = "import sys, mlcore; mlcore.load_run(sys.argv[1]).embed(sys.argv[2])"
_SIDES = ("--model.input_height_px", "224", "--model.input_width_px", "224")

_READING = """
What networks of torchvision and timm take beyond VGG16 is the import of torchvision's networks,
also by timm: `torchvision.ops` imports `torch._dynamo`, which none of them uses. mlcore cannot
leave that out without changing their modules. The last column compares with `import torch` in
the same turns, and so depends little on what else the machine did."""

_MODULE = '''
from dataclasses import dataclass
import mlcore

@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        margin: Margin of the embedding distance.
        cutoff_m: Distance in metres.
    """

    margin: float = 0.1
    cutoff_m: float = 15.0

@mlcore.hookimpl
def mlcore_losses():
    return [mlcore.LossFactory(name="NAME", summary="a loss", config=Config, build=print)]
'''


def main(argv: Sequence[str]) -> int:
    """Time commands with and without the additional plugins, and trained networks."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    warmup, rounds = (0, 1) if options.quick else (1, 5)
    with tempfile.TemporaryDirectory() as folder:
        names = _NETWORKS if not options.quick else _QUICK
        processes = {**_commands(Path(folder)), **_deployed(Path(folder), names)}
        seconds = _in_turns(processes, warmup, rounds)
    bare = median(seconds[TORCH])
    rows = [
        (
            f"`{label}`",
            f"{median(found):.3f} s [{min(found):.3f}, {max(found):.3f}]",
            f"{median(found) / bare:.2f}",
        )
        for label, found in seconds.items()
    ]
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(["process", "processor time", f"times `{TORCH}`"], rows)
        + _READING,
        options=options,
        argv=argv,
        method=f"one thread, {warmup} warm-ups, {rounds} repeats, in turns; median [smallest, "
        "largest]",
    )
    return 0


def _in_turns(
    processes: Mapping[str, Process], warmup: int, rounds: int
) -> dict[str, list[float]]:
    """Return the processor times of each process, without those of the first rounds."""
    seconds: dict[str, list[float]] = {label: [] for label in processes}
    for turn in range(warmup + rounds):
        for label, (words, more) in processes.items():
            environment = {**more, "OMP_NUM_THREADS": "1"}
            run = partial(common.run_python, *words, environment=environment)
            spent = common.processor_seconds(run)
            if turn >= warmup:
                seconds[label].append(spent)
    return seconds


def _commands(folder: Path) -> dict[str, Process]:
    install_plugins(folder)
    processes: dict[str, Process] = {}
    for label, words in COMMANDS.items():
        processes[label] = words, {}
        if label.startswith("mlcore"):
            more = {"PYTHONPATH": str(folder)}
            processes[f"{label}, {NUM_PLUGINS} more plugins"] = words, more
    return processes


def _deployed(folder: Path, names: Sequence[str]) -> dict[str, Process]:
    """Return processes from a trained network to its first embedding, or to a place."""
    photo = folder / "photos" / "0.png"
    _write_photos(photo.parent)
    processes: dict[str, Process] = {}
    for number, name in enumerate(names):
        words = (str(_map_of(name, folder / str(number), photo.parent)), str(photo))
        processes[f"load_run(...).embed(photo): {name}"] = ("-c", _EMBED, *words), {}
        if name in _LOCALIZED:
            words = ("-m", "mlcore", "localize", *words)
            processes[f"mlcore localize MAP photo.png: {name}"] = words, {}
    return processes


def _write_photos(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(NUM_REFERENCES):
        pixels = rng.integers(0, 256, size=(240, 320, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def _map_of(name: str, folder: Path, photos: Path) -> Path:
    """Write a map of photographs by a network with random weights; return its folder."""
    backbone, pooling, more = _NETWORKS[name]
    registry = Registry.discover()
    words = ["--backbone", backbone, "--pooling", pooling, *more, *_SIDES]
    config = parse_run([*words, "--model.weights", "none"], registry)
    folder.mkdir()
    save_model(
        folder / "model",
        build_model(config),
        config,
        None,
        confidence=None,
        run="startup",
        step=0,
        data_fingerprint="",
    )
    model = load_model(folder / "model", registry)
    with MapFolder.creating(folder / "map", folder / "model") as new:
        new.append(embed_parts(images_of_folder(photos), model, no_progress, []))
    return folder / "map"


def install_plugins(folder: Path) -> None:
    """Write the plugins to ``folder`` as pip would install them, one distribution each."""
    for number in range(NUM_PLUGINS):
        name = f"startup-plugin-{number}"
        module = name.replace("-", "_")
        (folder / f"{module}.py").write_text(_MODULE.replace("NAME", name))
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mlcore.plugins]\n{name} = {module}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
