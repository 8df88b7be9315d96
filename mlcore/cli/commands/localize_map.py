"""``mlcore localize MAP [MAP...] IMAGE...``: ``localize`` without a run's data set."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.model_arguments import open_model
from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.options import Command, RawOption
from mlcore.retrieval.confidence import UNKNOWN

if TYPE_CHECKING:
    from rich.table import Table

    from mlcore.deployment.localization import MapMatch
    from mlcore.retrieval.confidence import Answer
    from mlcore.retrieval.localization import Match
    from mlcore.retrieval.reranking import Reranking


def localize_in_maps(
    options: Namespace,
    changes: Sequence[RawOption],
    command: Command,
    reranking: Reranking | None = None,
) -> int:
    """Search the maps that are given for the image files, and return the exit code.

    Raises:
        ConfigError: An option does not apply to maps, or no image is given.
        DataError: A map is damaged, empty or of another model, or an image is not one.
    """
    from mlcore.data.image_files import ImageFiles
    from mlcore.deployment.localization import localize_in_maps as localize
    from mlcore.deployment.localization import require_one_model
    from mlcore.deployment.map_folder import MapFolder, is_map

    for flag, value in (("--split", options.split), ("--picture", options.picture)):
        if value is not None:
            raise ConfigError(f"{flag} needs a run and its data set; a map holds no images")
    words = [Path(word) for word in options.images]
    more = [path for path in words if is_map(path)]
    images = [path for path in words if not is_map(path)]
    if not images:
        raise ConfigError("give an image file to localize, after the maps")
    for path in images:
        if not path.exists():
            raise DataError(f"no image file at {path}; a map is searched with image files")
    if options.predictions is not None:
        require_keys(map(str, images))
    maps = [MapFolder.open(path) for path in (options.run, *more)]
    require_one_model(maps)
    model = open_model(options.run, changes, options.block, command)
    with console.progress() as progress:
        localized = localize(
            ImageFiles(images, named=True), maps, model, options.top, progress, reranking
        )
    found = [matches for matches, _ in localized]
    answers = [answer for _, answer in localized]
    if options.predictions is not None:
        write_predictions(options.predictions, [str(image) for image in images], found)
    if options.json:
        console.write_json(
            [
                {
                    "image": str(image),
                    **asdict(answer),
                    "matches": [asdict(match) for match in matches],
                }
                for image, matches, answer in zip(images, found, answers, strict=True)
            ]
        )
    else:
        names = [str(path) for path in images]
        console.show(matches_table(names, found, several=bool(more)))
        say_answers(names, answers)
    return 0


def say_answers(images: Sequence[str], answers: Sequence[Answer]) -> None:
    """Print how sure each answer is; once for all if the model has no thresholds."""
    if answers and all(answer == UNKNOWN for answer in answers):
        console.write(f"confidence {answers[0]}")
        return
    for image, answer in zip(images, answers, strict=True):
        console.write(f"{image}: {answer}")


def coordinate_columns(found: Sequence[Sequence[Match | MapMatch]]) -> list[str]:
    """Return the headings of latitude and longitude, if any match has them."""
    known = any(match.latitude_deg is not None for matches in found for match in matches)
    return ["latitude#", "longitude#"] if known else []


def coordinates(
    match: Match | MapMatch, found: Sequence[Sequence[Match | MapMatch]]
) -> list[str]:
    """Return the cells of :func:`coordinate_columns`; a millionth of a degree is 0.1 m."""
    if not coordinate_columns(found):
        return []
    values = (match.latitude_deg, match.longitude_deg)
    return ["unknown" if value is None else f"{value:.6f}" for value in values]


def require_keys(names: Iterable[str]) -> list[str]:
    """Return the key of each image: its file name without folder and suffix, as on MSLS.

    Raises:
        ConfigError: A key contains blanks, so that a line of keys could not be read back.
    """
    keys = [PurePath(name).stem for name in names]
    for key in keys:
        if key != "".join(key.split()):
            raise ConfigError(
                f"--predictions: the name of image {key!r} contains blanks, which separate the "
                "keys of a line; rename the image"
            )
    return keys


def write_predictions(
    path: Path, images: Sequence[str], found: Sequence[Sequence[Match | MapMatch]]
) -> None:
    """Write the key of each image and the keys of its matches, nearest first, a line each.

    Raises:
        ConfigError: A key contains blanks.
    """
    lines = []
    for image, matches in zip(images, found, strict=True):
        keys = require_keys((image, *(match.image for match in matches)))
        lines.append(" ".join(keys))
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    console.say(f"Written: {path}")


def matches_table(
    images: Sequence[str], found: Sequence[Sequence[MapMatch]], *, several: bool
) -> Table:
    """Return the matches of each image; which names the maps if there are several."""
    table = console.table(
        "image",
        "rank#",
        *(["map"] if several else []),
        "reference",
        "easting (m)#",
        "northing (m)#",
        *coordinate_columns(found),
        "condition",
        "embedding distance#",
    )
    for image, matches in zip(images, found, strict=True):
        for rank, match in enumerate(matches, start=1):
            position = match.position_m
            where = ["unknown"] * 2 if position is None else [f"{x:.1f}" for x in position[:2]]
            table.add_row(
                image if rank == 1 else "",
                str(rank),
                *([match.map] if several else []),
                match.image,
                *where,
                *coordinates(match, found),
                match.condition or "unknown",
                f"{match.embedding_distance:.3f}",
                end_section=rank == len(matches),
            )
    return table
