"""``mlcore embed RUN --out FILE``: embeddings of images, and an index of them.

They are whitened as in the evaluation of the run, so that searching them repeats its table.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.cli import console
from mlcore.cli.model_arguments import open_model
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import (
    RETRIEVAL_OPTIONS,
    TrainedRun,
    add_split,
    open_run,
    parser_for_run,
    require_parent,
)
from mlcore.errors import ConfigError
from mlcore.options import RawOption

if TYPE_CHECKING:
    from argparse import Namespace

    from numpy.typing import NDArray

    from mlcore.deployment.model_folder import DeployedModel
    from mlcore.protocols import PlaceDataset, Progress, Split
    from mlcore.retrieval.embedder import Embedder, ImageSource
    from mlcore.retrieval.export import Columns
    from mlcore.retrieval.whitening import Whitening


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_run(
        "embed",
        "Write embeddings of images, whitened as evaluated, and an index of them.",
        evaluation=RETRIEVAL_OPTIONS,
    )
    add_split(parser, "test", "validation", "train")
    parser.set_defaults(split=None)
    parser.add_argument(
        "--images",
        metavar="DIR",
        type=Path,
        help="embed the images of this folder instead of a split; needs neither the run's data "
        "set nor its plugin",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="FILE.parquet; FILE.npy, with the index in FILE.csv and what it was made from in "
        "FILE.npy.json; or a folder, with --shard_size",
    )
    parser.add_argument(
        "--shard_size",
        metavar="N",
        type=int,
        help="write shards of N images into the folder --out; if stopped, the same command "
        "continues",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    _require_target(options.out, options.shard_size)
    require_parent(options.out, "--out")
    if options.images is not None:
        own, others = _of_whitening(changes)
        model = None
        if not _needs_dataset(others):
            if options.split is not None:
                raise ConfigError("--split chooses images of a data set; --images has none")
            model = _changed(
                open_model(options.run, others, options.block, parser.command), own
            )
    if options.images is not None and model is not None:
        with console.progress() as progress:
            return _write(_of_model(model, _of_folder(options.images), progress), options)
    trained = open_run(options.run, changes, options.block, parser.command)
    _require_effect(trained, changes, options)
    with console.progress() as progress:
        return _write(_of_run(trained, options, progress), options)


_USED: dict[str, tuple[str, ...]] = {
    "none": (),
    "train": ("whitening_images", "dimensions"),
    "references": ("whitening_images", "dimensions", "spacing_m"),
}
"""Options of each whitening, by the images that it is fitted on."""


def _of_whitening(
    changes: Sequence[RawOption],
) -> tuple[dict[str, str], list[RawOption]]:
    """Return "whitening" and "dimensions", where they are given, and the other options."""
    names = ("whitening", "dimensions")
    is_own = [item.option in names and item.section in ("", "evaluation") for item in changes]
    own = {i.option: str(i.value) for i, own in zip(changes, is_own, strict=True) if own}
    return own, [item for item, own in zip(changes, is_own, strict=True) if not own]


def _changed(model: DeployedModel, whitening: Mapping[str, str]) -> DeployedModel | None:
    """Return the model with its own whitening left out or cut; None where that is not enough.

    The first dimensions of a whitening are those of a smaller one, so that no training image
    is needed for fewer of them.
    """
    source = whitening.get("whitening", model.info.whitening)
    kept = model.whitening
    if source == "none" and "dimensions" not in whitening:
        kept = None
    elif kept is None or source not in (kept.source, "auto"):
        return model if not whitening else None
    elif "dimensions" in whitening:
        number = whitening["dimensions"]
        if not number.isdecimal() or not 1 <= int(number) <= kept.dimensions:
            return None
        kept = kept.cut(int(number))
    info = replace(
        model.info,
        whitening="none" if kept is None else kept.source,
        dimensions=model.info.embedding_dim if kept is None else kept.dimensions,
    )
    return replace(model, whitening=kept, info=info)


def _needs_dataset(changes: Sequence[RawOption]) -> bool:
    """Return whether an option asks for another whitening than the run's own."""
    fitting = ("whitening", *_USED["references"])
    return any(
        item.section == "dataset"
        or (item.section in ("", "evaluation") and item.option in fitting)
        for item in changes
    )


def _require_effect(
    trained: TrainedRun, changes: Sequence[RawOption], options: Namespace
) -> None:
    """Raise ConfigError for what only whitening on references uses, with another."""
    source = _source(trained)
    if source == "references":
        return
    for item in changes:
        if item.option == "spacing_m" and item.section in ("", "evaluation"):
            raise ConfigError(
                f"{item.label} has no effect with --evaluation.whitening {source}, which this "
                "run has; choose --whitening references"
            )
    if options.images is not None and options.split is not None:
        raise ConfigError("--split chooses images of a data set; --images has none")


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Images to embed, and how.

    Attributes:
        images: The images.
        embedder: The network with its input.
        whitening: Returns what embeddings are whitened with; may have to be fitted first.
        made_from: What the embeddings depend on, to detect changes when a command is resumed.
    """

    images: _Images
    embedder: Embedder
    whitening: Callable[[], Whitening | None]
    made_from: dict[str, Any]


def _of_model(model: DeployedModel, images: _Images, progress: Progress) -> _Job:
    """Return the job for a finished model, which takes no data set."""
    return _Job(
        images=images,
        embedder=model.embedder(progress),
        whitening=lambda: model.whitening,
        made_from={
            "run": model.info.run,
            "model": model.info.identity,
            "images": str(images.folder),
            "whitening": model.info.whitening,
            "dimensions": model.info.dimensions,
        },
    )


def _of_run(trained: TrainedRun, options: Namespace, progress: Progress) -> _Job:
    """Return the job for a run and its data set."""
    from mlcore.evaluation.evaluate import embedder_of

    embedder = embedder_of(trained.model, trained.config, progress)
    if options.images is None:
        images = _of_split(trained.dataset, getattr(trained.dataset, options.split or "test"))
    else:
        images = _of_folder(options.images)
    return _Job(
        images=images,
        embedder=embedder,
        whitening=lambda: _whitening(embedder, options, trained),
        made_from={**_made_from(trained, options), **_whitening_options(trained)},
    )


def _write(job: _Job, options: Namespace) -> int:
    write = _write_in_one if options.shard_size is None else _write_in_shards
    return write(job, options)


def _write_in_one(job: _Job, options: Namespace) -> int:
    from mlcore.retrieval.export import write_embeddings

    whitening = job.whitening()
    found = job.embedder(job.images.source, job.images.index)
    console.notes([f"skipped, unreadable: {name}" for name in found.skipped])
    embeddings = _whitened(found.embeddings, whitening)
    num_images, num_dimensions = embeddings.shape
    about = {**job.made_from, **_about(whitening), "dimensions": num_dimensions}
    columns = job.images.columns_of(found.rows)
    written = write_embeddings(options.out, embeddings, columns, about)
    for path in written:
        console.say(f"Written: {path}")
    if options.json:
        names = [str(path) for path in written]
        skipped = list(found.skipped)
        console.write_json(
            {**about, "written": names, "num_images": num_images, "skipped": skipped}
        )
    else:
        console.write(
            f"{num_images} images, {num_dimensions} dimensions, {_in_words(whitening)}"
        )
    return 0


def _source(trained: TrainedRun) -> str:
    from mlcore.retrieval.references import whitening_source

    return whitening_source(trained.config.evaluation, trained.model, trained.dataset)


def _whitening_options(trained: TrainedRun) -> dict[str, Any]:
    """Return the options that decide the whitening, which a resumed command must repeat."""
    source, options = _source(trained), trained.config.evaluation
    return {"whitening": source, **{name: getattr(options, name) for name in _USED[source]}}


def _whitening(embedder: Embedder, options: Namespace, trained: TrainedRun) -> Whitening | None:
    """Return the whitening of the split's evaluation; for the train split, that of the test."""
    from mlcore.retrieval.references import whitening_of

    split = "validation" if options.split == "validation" else "test"
    references = getattr(trained.dataset, split).references
    settings = trained.config.evaluation
    whitening, skipped = whitening_of(embedder, trained.dataset, references, settings)
    console.notes([f"skipped for whitening, unreadable: {name}" for name in skipped])
    return whitening


def _whitened(
    embeddings: NDArray[np.float32], whitening: Whitening | None
) -> NDArray[np.float32]:
    return embeddings if whitening is None else whitening(embeddings)


def _about(whitening: Whitening | None) -> dict[str, Any]:
    if whitening is None:
        return {"whitening": "none", "whitening_images": 0}
    return {"whitening": whitening.source, "whitening_images": whitening.num_images}


def _in_words(whitening: Whitening | None) -> str:
    if whitening is None:
        return "not whitened"
    return f"whitened on {whitening.num_images} images ({whitening.source})"


def _require_target(out: Path, shard_size: int | None) -> None:
    """Raise ConfigError unless embeddings can be written to ``out`` in the requested format."""
    if shard_size is None:
        if out.suffix not in (".parquet", ".npy"):
            raise ConfigError(
                f"--out {out} must end in .parquet or .npy, or be a folder with --shard_size"
            )
    elif shard_size < 1:
        raise ConfigError(f"--shard_size must be at least 1, got {shard_size}")
    elif out.suffix or out.is_file():
        raise ConfigError(f"with --shard_size, --out must be a folder, got {out}")


@dataclass(frozen=True)
class _Images:
    """Images to embed.

    Attributes:
        source: What reads them.
        index: ``(N,)`` int64, their indices in the source.
        columns: Metadata, by name.
        folder: Where they are; None for those of a data set.
    """

    source: ImageSource
    index: NDArray[np.int64]
    columns: Columns
    folder: Path | None = None

    def columns_of(self, rows: NDArray[np.int64]) -> Columns:
        """Return the metadata of some of them."""
        return {name: column[rows] for name, column in self.columns.items()}


def _made_from(trained: TrainedRun, options: Namespace) -> dict[str, Any]:
    """Return what the embeddings depend on, to detect changes when a command is resumed."""
    checkpoint = trained.folder.newest_checkpoint()
    assert checkpoint is not None  # its weights are in use
    of_split = options.split or "test"
    of_images = of_split if options.images is None else str(options.images.absolute())
    return {
        "run": str(trained.folder.path.absolute()),
        "weights": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "images": of_images,
        "data": trained.dataset.fingerprint if options.images is None else "",
    }


def _write_in_shards(job: _Job, options: Namespace) -> int:
    from mlcore.retrieval.export import write_embeddings
    from mlcore.retrieval.shards import ShardFolder

    size, total = options.shard_size, len(job.images.index)
    folder = ShardFolder(
        options.out, {**job.made_from, "shard_size": size, "num_images": total}
    )
    whitening = job.whitening()
    dimensions = job.embedder.model.embedding_dim if whitening is None else whitening.dimensions
    numbers = range(-(-total // size))
    missing = [number for number in numbers if not folder.has(number)]
    if len(missing) < len(numbers):
        console.say(f"{len(numbers) - len(missing)} of {len(numbers)} shards exist already")
    for number in missing:
        rows = np.arange(number * size, min((number + 1) * size, total))
        found = job.embedder(
            job.images.source, job.images.index[rows], f"shard {number + 1} of {len(numbers)}"
        )
        console.notes([f"skipped, unreadable: {name}" for name in found.skipped])
        columns = job.images.columns_of(rows[found.rows])
        write_embeddings(folder.shard(number), _whitened(found.embeddings, whitening), columns)
    num_images = sum(folder.num_rows(number) for number in numbers)
    if options.json:
        shards = [str(folder.shard(number)) for number in numbers]
        about = {**job.made_from, **_about(whitening), "dimensions": dimensions}
        counts = {"num_images": num_images, "num_skipped": total - num_images}
        console.write_json({**about, "written": shards, **counts})
    else:
        skipped = total - num_images
        left_out = f" ({skipped} skipped, unreadable)" if skipped else ""
        console.write(
            f"{num_images} images{left_out} in {len(numbers)} shards, {dimensions} dimensions, "
            f"{_in_words(whitening)}"
        )
    return 0


def _of_split(dataset: PlaceDataset, split: Split) -> _Images:
    from mlcore.retrieval.export import split_columns

    index = np.concatenate([split.references.index, split.queries.index])
    return _Images(dataset, index, split_columns(split, dataset.image_name))


def _of_folder(folder: Path) -> _Images:
    from mlcore.data.image_files import find_images

    images = find_images(folder)
    console.notes(images.notes)
    index = np.arange(len(images))
    names = [images.image_name(int(row)) for row in index]
    return _Images(images, index, {"image": np.array(names, dtype=object)}, folder.absolute())
