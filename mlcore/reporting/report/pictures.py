"""The pictures of a report: Grad-CAM of some queries, and embeddings by place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.evaluation.measures import metres
from mlcore.reporting.figures.gradcam import overlay
from mlcore.reporting.figures.places import extent_of, place_colours
from mlcore.reporting.figures.positions import side_by_side
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.map import RIGHT, WRONG, condition_numbers
from mlcore.reporting.report.thumbnails import data_uri, jpeg
from mlcore.retrieval.embedder import evenly_spaced

_MOST_PROJECTED = 4000
_GALLERY_PX = 320


def gallery(content: ReportContent) -> list[dict[str, Any]]:
    """Return four images and a caption of each match with Grad-CAM; reads the images.

    Raises:
        DataError: An image cannot be read.
    """
    shown, dataset = content.results[-1], content.dataset
    numbers = dict(
        zip(shown.query_index.tolist(), condition_numbers(shown).tolist(), strict=True)
    )
    shows: list[dict[str, Any]] = []
    for match in content.gradcam:
        outcome = RIGHT if match.distance_m < content.within_m else WRONG
        query, reference = (
            dataset.load_image(index).permute(1, 2, 0).numpy()
            for index in (match.query, match.reference)
        )
        names = dataset.image_name(match.query), dataset.image_name(match.reference)
        images = {
            f"query {names[0]}": query,
            f"Grad-CAM on query {names[0]}": overlay(query, match.query_map),
            f"retrieved reference {names[1]}": reference,
            f"Grad-CAM on reference {names[1]}": overlay(reference, match.reference_map),
        }
        number = numbers[match.query]
        shows.append(
            {
                "outcome": outcome,
                "condition": number,
                "verdict": f"{metres(match.distance_m)}, {outcome}.",
                "text": f"{names[0]} ({shown.present_conditions[number]}) retrieved "
                f"{names[1]}; distance of the network's embeddings "
                f"{match.embedding_distance:.2f}.",
                "images": [
                    {"alt": alt, "uri": data_uri(jpeg(pixels, _GALLERY_PX, 80), "jpeg")}
                    for alt, pixels in images.items()
                ],
            }
        )
    return shows


def projections(content: ReportContent) -> dict[str, Any]:
    """Return the map and each projection as points, coloured by position."""
    references_m, positions_m = side_by_side(content.split.references, content.split.queries)
    num_queries = len(positions_m)
    if content.projected is not None:
        positions_m = positions_m[content.projected]
    rows = evenly_spaced(len(positions_m), _MOST_PROJECTED)
    extent = extent_of(np.concatenate([references_m, positions_m]))
    colours = place_colours(positions_m[rows], extent)
    names = [_hex(colour) for colour in colours]
    panels = [
        ("map of the queries", positions_m[rows]),
        *(
            (f"{name}, {found.method}", found.points[rows])
            for name, found in content.projections
        ),
    ]
    radius = 3 if len(rows) < 1000 else 2
    drawn = [
        {"title": title, "points": _scaled(points, names), "radius": radius}
        for title, points in panels
    ]
    part = f"{len(rows)} evenly spaced ones are shown." if len(rows) < len(positions_m) else ""
    if len(positions_m) < num_queries:
        part += f" {num_queries - len(positions_m)} could not be read and are left out."
    return {"projections": drawn if content.projections else [], "projected_part": part}


def _scaled(
    points: NDArray[np.float64], colours: Sequence[str]
) -> list[tuple[float, float, str]]:
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 300 / max(float((high - low).max()), 1e-9)
    at = (160 + (points - (low + high) / 2) * [scale, -scale]).round(1)
    return [(x, y, colour) for (x, y), colour in zip(at.tolist(), colours, strict=True)]


def _hex(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)
