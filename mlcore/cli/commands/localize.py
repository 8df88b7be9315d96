"""``mlcore localize RUN|MAP IMAGE...``: find where images were taken, with a trained model."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.commands.localize_map import (
    coordinate_columns,
    coordinates,
    localize_in_maps,
    require_keys,
    say_answers,
    write_predictions,
)
from mlcore.cli.model_arguments import require_run_or_map
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import (
    RETRIEVAL_OPTIONS,
    TrainedRun,
    add_split,
    open_run,
    parser_for_run,
    require_output_file,
)
from mlcore.errors import ConfigError, DataError, UnknownNameError
from mlcore.factories import RerankerFactory
from mlcore.options import Command, RawOption
from mlcore.options.single import choose_single
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.retrieval.confidence import Answer
    from mlcore.retrieval.localization import Localization, Match, QueryImage
    from mlcore.retrieval.reranking import Reranking

COMPARED = 10
"""References per image that a reranker compares, unless --rerank is given."""
_WHITENS = ("whitening", "dimensions", "whitening_images")


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_run(
        "localize",
        "Find where images were taken: the references most similar to each.",
        evaluation=RETRIEVAL_OPTIONS,
    )
    parser.epilog = (
        f"{parser.epilog} With 'mlcore localize MAP [MAP...] IMAGE...' the maps of 'mlcore "
        "index' are searched instead of the run's data set."
    )
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="an image file, or the name of an image in the data set",
    )
    add_split(parser, "test", "validation", "train")
    parser.set_defaults(split=None)
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="references per image (default: 5)"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="PNG", help="draw each image beside its matches"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="FILE",
        help="write a line per image: its key and those of its matches, as the MSLS server "
        "takes them; a key is a file name without folder and suffix",
    )
    parser.add_argument(
        "--reranker",
        metavar="NAME",
        help="compare the images of unsure answers with their first references ('mlcore list "
        "rerankers'); its options are --reranker.OPTION VALUE",
    )
    parser.add_argument(
        "--rerank",
        type=int,
        metavar="N",
        help=f"references per image that the reranker compares (default: {COMPARED})",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    if options.top < 1:
        raise ConfigError(f"--top must be at least 1, got {options.top}")
    require_output_file(options.picture, "--picture", ".png")
    require_output_file(options.predictions, "--predictions")

    from mlcore.deployment.map_folder import is_map

    reranking, changes = _reranking(options, changes)
    if is_map(options.run):
        return localize_in_maps(options, changes, parser.command, reranking)
    if options.predictions is not None:
        require_keys(options.images)
    require_run_or_map(options.run)
    trained = _open(options, changes, parser.command)

    from mlcore.retrieval.localization import resolve_images

    asked = resolve_images(options.images, trained.dataset)
    localized = _localize(trained, asked, options, changes, reranking)
    found = [matches for matches, _ in localized]
    answers = [answer for _, answer in localized]
    if options.picture is not None:
        _draw(options.picture, trained, asked, found)
    if options.predictions is not None:
        write_predictions(options.predictions, [one.name for one in asked], found)
    if options.json:
        console.write_json(
            [_as_json(*each) for each in zip(asked, found, answers, strict=True)]
        )
    else:
        _show(asked, found)
        say_answers([one.name for one in asked], answers)
    return 0


def _open(options: Namespace, changes: Sequence[RawOption], command: Command) -> TrainedRun:
    """Open the run and its data set, whose references are searched."""
    RunFolder.open(options.run)  # the hint below is for runs
    try:
        return open_run(options.run, changes, options.block, command)
    except (DataError, UnknownNameError) as error:
        raise DataError(
            f"{error}. The references of a run are in its data set; without it, search a map: "
            f"'mlcore index {options.run} --images DIR --out MAP', then 'mlcore localize MAP "
            "IMAGE'"
        ) from error


def _reranking(
    options: Namespace, changes: Sequence[RawOption]
) -> tuple[Reranking | None, list[RawOption]]:
    """Return the reranker that the options choose, and the options of the run."""
    chosen, changes = choose_single(
        RerankerFactory, options.reranker, changes, Registry.discover(block=options.block)
    )
    if chosen is None:
        if options.rerank is not None:
            raise ConfigError("--rerank needs --reranker NAME")
        return None, changes
    num_compared = COMPARED if options.rerank is None else options.rerank
    if num_compared < 1:
        raise ConfigError(f"--rerank must be at least 1, got {num_compared}")

    from mlcore.retrieval.reranking import Reranking

    return Reranking.of(chosen, num_compared), changes


def _localize(
    trained: TrainedRun,
    asked: Sequence[QueryImage],
    options: Namespace,
    changes: Sequence[RawOption],
    reranking: Reranking | None,
) -> list[Localization]:
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.retrieval.confidence import read_confidence
    from mlcore.retrieval.localization import localize
    from mlcore.retrieval.references import embed_references

    with console.progress() as progress:
        embedder = embedder_of(trained.model, trained.config, progress)
        references = embed_references(
            embedder,
            trained.dataset,
            getattr(trained.dataset, options.split or "test").references,
            trained.config.evaluation,
        )
        console.notes([f"skipped, unreadable: {name}" for name in references.skipped])
        # Images that the user names are never skipped.
        embedder = replace(embedder, skip_unreadable=False)
        # Thresholds hold for embeddings as they were evaluated.
        same = not any(item.option in _WHITENS for item in changes)
        return localize(
            asked,
            embedder,
            trained.dataset,
            references,
            options.top,
            confidence=read_confidence(trained.folder.model) if same else None,
            reranking=reranking,
        )


def _draw(
    path: Path,
    trained: TrainedRun,
    asked: Sequence[QueryImage],
    found: Sequence[Sequence[Match]],
) -> None:
    from mlcore.reporting.figures.matches import save_matches
    from mlcore.retrieval.localization import QueryImages

    source = QueryImages(asked, trained.dataset)
    images = [source.load_image(number) for number in range(len(asked))]
    save_matches(path, asked, images, found, trained.dataset.load_image)
    console.say(f"Written: {path}")


def _show(asked: Sequence[QueryImage], found: Sequence[Sequence[Match]]) -> None:
    from mlcore.evaluation.measures import metres

    table = console.table(
        "image",
        "rank#",
        "reference",
        "easting (m)#",
        "northing (m)#",
        *coordinate_columns(found),
        "condition",
        "embedding distance#",
        "distance#",
    )
    for one, matches in zip(asked, found, strict=True):
        for rank, match in enumerate(matches, start=1):
            table.add_row(
                one.name if rank == 1 else "",
                str(rank),
                match.image,
                f"{match.position_m[0]:.1f}",
                f"{match.position_m[1]:.1f}",
                *coordinates(match, found),
                match.condition,
                f"{match.embedding_distance:.3f}",
                "unknown" if match.distance_m is None else metres(match.distance_m),
                end_section=rank == len(matches),
            )
    console.show(table)


def _as_json(one: QueryImage, matches: Sequence[Match], answer: Answer) -> dict[str, object]:
    return {
        "image": one.name,
        **asdict(answer),
        "position_m": None if one.position_m is None else one.position_m.tolist(),
        "region": one.region,
        "matches": [
            # JSON has no infinity; the regions say why there is no distance.
            asdict(match) | ({"distance_m": None} if match.distance_m == math.inf else {})
            for match in matches
        ],
    }
