"""``mlcore localize MAP [MAP...] IMAGE...``: ``localize`` without a run's data set."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.model_arguments import open_model
from mlcore.errors import ConfigError
from mlcore.files import atomic_write
from mlcore.options import Command, RawOption

if TYPE_CHECKING:
    from mlcore.deployment.localization import MapMatch
    from mlcore.retrieval.localization import Match


def localize_in_maps(options: Namespace, changes: Sequence[RawOption], command: Command) -> int:
    """Search the maps that are given for the image files, and return the exit code.

    Raises:
        ConfigError: An option does not apply to maps, or no image is given.
        DataError: A map is damaged, empty or of another model, or an image is not one.
    """
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
    maps = [MapFolder.open(path) for path in (options.run, *more)]
    require_one_model(maps)
    model = open_model(options.run, changes, options.block, command)
    with console.progress() as progress:
        found = localize(images, maps, model, options.top, progress)
    if options.predictions is not None:
        write_predictions(options.predictions, [str(image) for image in images], found)
    if options.json:
        console.write_json(
            [
                {"image": str(image), "matches": [asdict(match) for match in matches]}
                for image, matches in zip(images, found, strict=True)
            ]
        )
    else:
        _show(images, found, several=bool(more))
    return 0


def write_predictions(
    path: Path, images: Sequence[str], found: Sequence[Sequence[Match | MapMatch]]
) -> None:
    """Write the key of each image and the keys of its matches, nearest first, a line each.

    A key is a file name without folder and suffix, as in the predictions of MSLS.

    Raises:
        ConfigError: A key contains blanks, so that a line could not be read back.
    """
    lines = []
    for image, matches in zip(images, found, strict=True):
        keys = [PurePath(name).stem for name in (image, *(match.image for match in matches))]
        for key in keys:
            if key != "".join(key.split()):
                raise ConfigError(f"--predictions: the name of image {key!r} contains blanks")
        lines.append(" ".join(keys))
    with atomic_write(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
    console.say(f"Written: {path}")


def _show(
    images: Sequence[Path], found: Sequence[Sequence[MapMatch]], *, several: bool
) -> None:
    """Draw a table, which names the maps if there are several."""
    table = console.table(
        "image",
        "rank#",
        *(["map"] if several else []),
        "reference",
        "easting (m)#",
        "northing (m)#",
        "condition",
        "embedding distance#",
    )
    for image, matches in zip(images, found, strict=True):
        for rank, match in enumerate(matches, start=1):
            position = match.position_m
            where = ["unknown"] * 2 if position is None else [f"{x:.1f}" for x in position[:2]]
            table.add_row(
                str(image) if rank == 1 else "",
                str(rank),
                *([match.map] if several else []),
                match.image,
                *where,
                match.condition or "unknown",
                f"{match.embedding_distance:.3f}",
                end_section=rank == len(matches),
            )
    console.show(table)
