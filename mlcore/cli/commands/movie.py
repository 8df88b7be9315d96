"""``mlcore movie RUN...``: queries along a traversal with their matches, as an MP4."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    RETRIEVAL_OPTIONS,
    add_out_file,
    add_split,
    add_within,
    models_of_runs,
    out_file,
    parser_for_runs,
    require_within,
)
from mlcore.errors import ConfigError, DataError, require_library
from mlcore.options import Command, RawOption

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlcore.cli.parser import Parser
    from mlcore.evaluation.gradcam import GradCamMatch
    from mlcore.protocols import PlaceDataset, PlaceTable, Progress, Split

MOVIE = "movie.mp4"


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_runs(
        "movie",
        "Film the queries of a traversal with their matches; one row per model.",
        evaluation=(*RETRIEVAL_OPTIONS, "baselines"),
    )
    parser.add_argument(
        "--traversal", metavar="NAME", help="traversal to film (default: the first)"
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=150,
        metavar="N",
        help="largest number of frames, evenly spaced along the traversal (default: 150)",
    )
    parser.add_argument("--fps", type=float, default=5.0, help="frames per second (default: 5)")
    parser.add_argument(
        "--panel",
        type=int,
        default=320,
        metavar="PX",
        help="width of each image in pixels (default: 320)",
    )
    add_within(parser)
    add_split(parser, "test", "validation")
    add_out_file(parser, MOVIE)
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    require_library("mlcore movie", "captum", "mlcore-localization[figures]")
    _require_usable(options)
    out = out_file(options, MOVIE)

    from mlcore.reporting.figures.movie import find_ffmpeg, save_movie

    find_ffmpeg()  # if it is missing, fail before the long work
    with console.progress() as progress:
        frames = _frames(options, changes, parser.command, progress)
        count = save_movie(frames, out, frames_per_second=options.fps)
    console.written([out], as_json=options.json)
    console.say(f"{count} frames, {count / options.fps:.1f} s")
    return 0


def _require_usable(options: Namespace) -> None:
    require_within(options)
    if options.frames < 1:
        raise ConfigError(f"--frames must be at least 1, got {options.frames}")
    if not 0 < options.fps < math.inf:
        raise ConfigError(f"--fps must be positive, got {options.fps:g}")
    if not 32 <= options.panel <= 2000:
        raise ConfigError(f"--panel must be between 32 and 2000 pixels, got {options.panel}")


def _frames(
    options: Namespace, changes: Sequence[RawOption], command: Command, progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames; of each model only the small maps are kept, not the images."""
    import numpy as np

    from mlcore.evaluation.gradcam import explain_results
    from mlcore.reporting.figures.gradcam import draw_rows

    by_model: list[tuple[str, list[GradCamMatch]]] = []
    for named in models_of_runs(options, changes, command, progress):
        dataset = named.dataset
        split = _filmed(getattr(dataset, options.split), options)
        embedder, results = named.evaluate(split, options.split, progress)
        shown = range(len(results.query_index))
        found = explain_results(embedder, dataset, results, shown, name=named.name)
        by_model.append((named.name, found))
    # Every model reads the same files, so that each row of the movie has the same queries.
    console.notes([f"skipped, unreadable: {name}" for name in results.skipped])
    is_read = np.isin(split.queries.index, results.query_index)
    queries = split.queries.take(is_read.nonzero()[0])
    for place, index in enumerate(queries.index.tolist()):
        yield draw_rows(
            [(name, found[place]) for name, found in by_model],
            dataset.load_image,
            heading=_heading(dataset, queries, place, index),
            correct_within_m=options.within,
            panel_width_px=options.panel,
        )
        progress("frames", place + 1, len(queries))


def _filmed(split: Split, options: Namespace) -> Split:
    """Return the split with the queries that the movie shows, in the order they were taken."""
    from mlcore.retrieval.embedder import evenly_spaced

    queries = split.queries
    present = [queries.traversals[code] for code in sorted(set(queries.traversal.tolist()))]
    if not present:
        raise DataError(f"the {options.split} split has no query to film")
    name = present[0] if options.traversal is None else options.traversal
    if name not in present:
        raise DataError(
            f"--traversal {name}: the {options.split} split has no queries of that traversal; "
            f"it has {', '.join(present)}"
        )
    rows = (queries.traversal == list(queries.traversals).index(name)).nonzero()[0]
    return replace(split, queries=queries.take(rows[evenly_spaced(len(rows), options.frames)]))


def _heading(dataset: PlaceDataset, queries: PlaceTable, place: int, index: int) -> str:
    parts = [f"{place + 1} of {len(queries)}", dataset.image_name(index)]
    if queries.arc_length_m is not None:
        parts.insert(1, f"{queries.arc_length_m[place]:.0f} m along")
    return "; ".join([*parts, str(queries.conditions[queries.condition[place]])])
