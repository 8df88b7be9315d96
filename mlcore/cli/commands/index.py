"""``mlcore index RUN --out MAP``: a map of references, to localize without the run's data."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.cli import console
from mlcore.cli.model_arguments import open_model
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import add_split, require_parent
from mlcore.errors import ConfigError
from mlcore.options import RawOption

if TYPE_CHECKING:
    from mlcore.deployment.indexing import MapImages
    from mlcore.deployment.map_folder import MapFolder
    from mlcore.deployment.model_folder import DeployedModel


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "index",
        "Make a map: references embedded by a trained model, with the model. 'mlcore localize "
        "MAP IMAGE' searches it without the references' images.",
        takes_run_options=True,
        epilog="The references of the run's test split make the map, unless --images or "
        "--split is given, or --dataset NAME and --dataset.OPTION VALUE. --spacing_m M thins "
        "them; the default is that of the run's evaluation.",
    )
    parser.add_argument(
        "source",
        metavar="RUN|MAP",
        type=Path,
        help="run whose model embeds the images, or a map",
    )
    parser.add_argument("--out", metavar="MAP", type=Path, help="folder of the new map")
    parser.add_argument(
        "--append", action="store_true", help="add the images to the map that is given"
    )
    parser.add_argument(
        "--images", metavar="DIR", type=Path, help="images of a folder, without positions"
    )
    add_split(parser, "test", "validation", "train")
    parser.set_defaults(split=None)
    parser.add_argument(
        "--index",
        metavar="KIND",
        help="flat (exact), ivf, hnsw, fp16, int8, or a factory string of faiss; given with a "
        "map alone, its index is built again (default: flat, or that of the map)",
    )
    parser.add_argument(
        "--thumbnails",
        metavar="PX",
        type=int,
        help="keep a JPEG of each reference in the map, its longest side this many pixels, for "
        "'mlcore localize --reranker' (default: none, or as the map has them)",
    )
    parser.words["index"] = lambda: ("flat", "ivf", "hnsw", "fp16", "int8")
    parser.add_block_option()
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    _require_consistent(options, changes)
    if options.thumbnails is not None and not 16 <= options.thumbnails <= 8192:
        raise ConfigError(
            f"--thumbnails must be between 16 and 8192 pixels, got {options.thumbnails}"
        )
    require_parent(options.out, "--out")

    from mlcore.deployment.approximate_index import require_kind
    from mlcore.deployment.map_folder import MapFolder

    if options.append or options.out is None:
        there = MapFolder.open(options.source)
        kind = options.index or _kind_of(there)
        require_kind(kind, there.info.dimensions)
        if options.append:
            _append(there, options, changes, parser)
        _build_index(there, kind)
        _report(there, options)
        return 0
    uses_dataset = options.images is None
    model = open_model(
        options.source, changes, options.block, parser.command, with_dataset=uses_dataset
    )
    kind = options.index or "flat"
    require_kind(kind, model.info.dimensions)
    with MapFolder.creating(options.out, model.path) as new:
        _add(new, model, options, options.thumbnails or 0)
        _build_index(new, kind)
    _report(new, options)
    console.say(f"Written: {options.out}")
    return 0


def _require_consistent(options: Namespace, changes: Sequence[RawOption]) -> None:
    """Raise ConfigError if flags contradict each other, or one would do nothing."""
    from mlcore.deployment.map_folder import is_map

    chooses_data = any(item.section == "dataset" and item.chooses for item in changes)
    if options.append and options.out is not None:
        raise ConfigError("--append adds to the map that is given; leave --out away")
    if options.out is None and not options.append:
        if not is_map(options.source):
            raise ConfigError(
                f"{options.source} is not a map; give --out MAP to make one from a run"
            )
        if options.index is None or options.images is not None or _adds(options, changes):
            raise ConfigError(
                f"map {options.source} needs --append to add images to it, --out MAP to make "
                "another, or --index KIND and nothing else to build its index again"
            )
        return
    if options.images is not None and options.split is not None:
        raise ConfigError("--split chooses images of a data set; --images has none")
    if is_map(options.source) and options.images is None and not chooses_data:
        raise ConfigError(
            f"map {options.source} has no data set of its own; give --images DIR or "
            "--dataset NAME"
        )


def _adds(options: Namespace, changes: Sequence[RawOption]) -> bool:
    """Return whether an option is about images to be added."""
    return bool(options.split or options.thumbnails is not None or changes)


def _append(
    there: MapFolder, options: Namespace, changes: Sequence[RawOption], parser: Parser
) -> None:
    model = open_model(
        options.source,
        changes,
        options.block,
        parser.command,
        with_dataset=options.images is None,
    )
    if options.thumbnails is not None and there.thumbnail_px != options.thumbnails:
        has = f"thumbnails of {there.thumbnail_px} px" if there.thumbnail_px else "none"
        raise ConfigError(
            f"--thumbnails {options.thumbnails}: map {there.path} has {has}; leave the option "
            "out, or make a new map with --out"
        )
    _add(there, model, options, there.thumbnail_px)


def _add(
    folder: MapFolder, model: DeployedModel, options: Namespace, thumbnail_px: int
) -> None:
    """Embed the images that the options choose, and add them to a map."""
    from mlcore.deployment.indexing import embed_parts

    images = _images(model, options)
    console.notes(images.notes)
    skipped: list[str] = []
    with console.progress() as progress:
        parts = embed_parts(images, model, progress, skipped, thumbnail_px=thumbnail_px)
        folder.append(parts, thumbnail_px=thumbnail_px)
    console.notes([f"skipped, unreadable: {name}" for name in skipped])


def _images(model: DeployedModel, options: Namespace) -> MapImages:
    from mlcore.deployment.indexing import images_of_folder, images_of_split
    from mlcore.experiment import check_dataset, open_dataset

    if options.images is not None:
        return images_of_folder(options.images)
    with console.progress() as progress:
        dataset = open_dataset(model.config, progress)
    console.notes([*dataset.notes, *check_dataset(model.config, dataset)])
    spacing_m = model.config.evaluation.spacing_m
    return images_of_split(dataset, options.split or "test", spacing_m)


def _kind_of(folder: MapFolder) -> str:
    return "flat" if folder.info.index is None else folder.info.index.kind


def _build_index(folder: MapFolder, kind: str) -> None:
    with console.progress() as progress:
        folder.build_index(kind, progress)


def _report(folder: MapFolder, options: Namespace) -> None:
    columns = folder.columns
    index = folder.info.index
    with_position = len(columns) - columns["easting_m"].null_count
    content: dict[str, Any] = {
        "map": str(folder.path),
        "references": len(folder),
        "with_position": with_position,
        "dimensions": folder.info.dimensions,
        "thumbnail_px": folder.thumbnail_px,
        "index": None if index is None else asdict(index),
    }
    if options.json:
        console.write_json(content)
        return
    console.write(
        f"{len(folder)} references, {with_position} of them with a position, "
        f"{folder.info.dimensions} dimensions"
    )
    if not with_position:
        console.say(
            "note: matches will have no metres, since --images reads no positions; a data set "
            "does, also from EXIF: --dataset images --dataset.root DIR"
        )
    if index is not None:
        console.write(
            f"index {index.kind} ({index.factory}): {index.size_bytes / 2**20:.1f} MiB, built "
            f"in {index.build_s:.1f} s; of the references' nearest neighbours it finds "
            f"{index.recall_1:.1%} (first) and {index.recall_10:.1%} (first ten)"
        )
