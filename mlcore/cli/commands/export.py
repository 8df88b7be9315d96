"""``mlcore export RUN|MAP --format NAME --out FILE``: for programs other than mlcore."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.cli import console
from mlcore.cli.model_arguments import open_model
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import require_parent
from mlcore.errors import ConfigError, require_library

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.deployment.model_folder import DeployedModel

SUFFIXES = {
    "onnx": ".onnx",
    "torch-export": ".pt2",
    "hloc": ".h5",
    "faiss": ".faiss",
    "safetensors": ".safetensors",
}
"""The formats, each with the ending of its file."""

_LIBRARIES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "hloc": ("h5py",)}
"""The modules that a format needs beyond the base installation; its extra has its name."""

_FLAGS = {
    "images": ("onnx", "torch-export"),
    "layout": ("onnx", "torch-export"),
    "queries": ("hloc",),
    "top": ("hloc",),
}
"""The formats that a flag applies to."""

_MOST_IMAGES = 16
"""Images that an export is checked on."""


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "export", "Write the model of a run or a map, or the references of a map, for others."
    )
    parser.add_argument(
        "source", metavar="RUN|MAP", type=Path, help="a trained run, or a map of 'mlcore index'"
    )
    parser.add_argument(
        "--format",
        required=True,
        choices=tuple(SUFFIXES),
        help="onnx, torch-export: from pixels to whitened embeddings in one graph; hloc and "
        "faiss: the references of a map; safetensors: weights, with a model card",
    )
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="onnx, torch-export: images to compare the file's embeddings with the run's on "
        "(default: generated ones of several sizes)",
    )
    parser.add_argument(
        "--layout",
        choices=("BCHW", "BHWC"),
        help="onnx, torch-export: axes of the input, uint8 RGB (default: BCHW)",
    )
    parser.add_argument(
        "--queries", metavar="DIR", type=Path, help="hloc: query images, to write pairs for"
    )
    parser.add_argument(
        "--top", type=int, metavar="N", help="hloc: references per query (default: 20)"
    )
    parser.add_block_option()
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options = parser.parse_command(argv)
    _require_consistent(options)
    require_parent(options.out, "--out")
    for module in _LIBRARIES.get(options.format, ()):
        what = f"mlcore export --format {options.format}"
        require_library(what, module, f"mlcore-localization[{options.format}]")
    model = open_model(options.source, (), options.block, parser.command)
    result: dict[str, Any] = {}
    if options.format in ("onnx", "torch-export"):
        result["parity"] = _write_graph(model, options)
        written: tuple[Path, ...] = (options.out,)
    elif options.format == "safetensors":
        from mlcore.deployment.exchange import write_safetensors

        written = write_safetensors(options.out, model, _results(options.source))
    else:
        written = _write_references(model, options)
    if options.json:
        console.write_json({"written": [str(path) for path in written], **result})
    elif "parity" in result:
        console.write(f"largest relative difference from the run: {result['parity']:.1e}")
    console.written(written, as_json=False)
    return 0


def _require_consistent(options: Namespace) -> None:
    """Raise ConfigError if a flag does not apply to the format, or the file's name does not."""
    for flag, formats in _FLAGS.items():
        if getattr(options, flag) is not None and options.format not in formats:
            raise ConfigError(
                f"--{flag} applies to --format {' and '.join(formats)}, got {options.format}"
            )
    suffix = SUFFIXES[options.format]
    if options.out.suffix.lower() != suffix:
        raise ConfigError(f"--out {options.out} must end in {suffix}")
    for path in _files(options):
        if path.exists():
            raise ConfigError(f"{path} exists already; choose another --out")
    if options.top is not None and options.top < 1:
        raise ConfigError(f"--top must be at least 1, got {options.top}")
    if options.top is not None and options.queries is None:
        raise ConfigError("--top needs --queries DIR, the images to write pairs for")


def _files(options: Namespace) -> list[Path]:
    """Return the file that is written, and the one beside it."""
    out: Path = options.out
    beside = {
        "hloc": out.with_name(f"{out.stem}-pairs.txt"),
        "faiss": out.with_suffix(".csv"),
        "safetensors": out.with_suffix(".md"),
    }
    return [out, *([beside[options.format]] if options.format in beside else [])]


def _write_graph(model: DeployedModel, options: Namespace) -> float:
    """Write the network as one graph; return how far its embeddings are from the run's."""
    from mlcore.deployment.graph import EmbeddingGraph
    from mlcore.deployment.onnx_file import onnx_runner, to_onnx
    from mlcore.deployment.parity import TOLERANCE, measure_parity
    from mlcore.deployment.torch_program import to_torch_program, torch_runner
    from mlcore.files import atomic_write

    channels_last = options.layout == "BHWC"
    images = _images(options.images)
    graph = EmbeddingGraph(
        model.network.cpu(), model.info.input_size, model.whitening, channels_last=channels_last
    )
    metadata = {"mlcore": json.dumps(asdict(model.info))}
    if options.format == "onnx":
        content = to_onnx(graph, metadata)
        runner = onnx_runner(content)
    else:
        content = to_torch_program(graph, metadata)
        runner = torch_runner(content)
    parity = measure_parity(runner, model, images, channels_last=channels_last)
    if not parity <= TOLERANCE:
        raise ConfigError(
            f"the exported network's embeddings differ from the run's by {parity:.1e} of their "
            f"length, more than {TOLERANCE:.0e}; nothing is written"
        )
    with atomic_write(options.out) as file:
        file.write(content)
    return parity


def _images(folder: Path | None) -> list[Tensor]:
    from mlcore.data.image_files import find_images
    from mlcore.deployment.parity import made_images
    from mlcore.retrieval.embedder import evenly_spaced

    if folder is None:
        return made_images()
    found = find_images(folder)
    rows = evenly_spaced(len(found), _MOST_IMAGES)
    return [found.load_image(int(row)) for row in rows]


def _write_references(model: DeployedModel, options: Namespace) -> tuple[Path, ...]:
    """Write the references of a map for hloc or faiss."""
    from mlcore.deployment.exchange import write_faiss, write_hloc
    from mlcore.deployment.indexing import images_of_folder
    from mlcore.deployment.map_folder import MapFolder, is_map

    if not is_map(options.source):
        raise ConfigError(
            f"--format {options.format} needs a map, and {options.source} is not one; make it "
            f"with 'mlcore index {options.source} --out MAP'"
        )
    folder = MapFolder.open(options.source)
    if options.format == "faiss":
        return write_faiss(options.out, folder)
    if options.queries is None:
        return write_hloc(options.out, folder)
    queries = images_of_folder(options.queries)
    console.notes(queries.notes)
    with console.progress() as progress:
        found = model.embedder(progress)(queries.source, np.asarray(queries.index), "queries")
    names = list(queries.columns["image"])
    return write_hloc(
        options.out, folder, names, model.whiten(found.embeddings), options.top or 20
    )


def _results(source: Path) -> str:
    """Return the tables of a run's evaluation, empty for a map."""
    from mlcore.evaluation.recording import read_results
    from mlcore.reporting.tables import result_tables
    from mlcore.run_folder import RunFolder

    run_folder = RunFolder(source)
    if not run_folder.evaluation.is_file():
        return ""
    return console.as_text(result_tables(read_results(run_folder, run_folder.evaluation)))
