"""Pictures of matches with Grad-CAM, one row per model, for figures and for the movie.

They are drawn with Pillow, which takes a few milliseconds per picture; a movie has hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mlcore.evaluation.measures import metres
from mlcore.files import atomic_write
from mlcore.reporting.figures.matches import RIGHT, WRONG

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.evaluation.gradcam import GradCamMatch

COLUMNS = ("query", "query, Grad-CAM", "reference, Grad-CAM", "retrieved reference")
_GAP_PX, _LINE_PX = 6, 24
_INK, _PAPER = "#111111", "#FFFFFF"
_STRENGTH = 0.7


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return an image ``(H, W, 3)`` overlaid with a map ``(h, w)``, largest value brightest.

    A map of zeros leaves the image grey.
    """
    height, width, _ = image.shape
    scaled = Image.fromarray(heat / max(float(heat.max()), 1e-12))
    weight = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR))
    weight = np.clip(weight, 0.0, 1.0)[..., None]
    grey = image.mean(axis=2, keepdims=True) * np.ones(3)
    colours = 255 * _colour_map()[(weight[..., 0] * 255).astype(np.int64)]
    mixed: NDArray[np.float64] = grey * (1 - _STRENGTH * weight) + colours * _STRENGTH * weight
    return mixed.round().astype(np.uint8)


def draw_rows(
    rows: Sequence[tuple[str, GradCamMatch]],
    load_image: Callable[[int], Tensor],
    *,
    heading: str,
    correct_within_m: float,
    panel_width_px: int = 320,
) -> NDArray[np.uint8]:
    """Return a picture of one query, one row per model: ``(H, W, 3)``, H and W even.

    Args:
        rows: Name of each model and its match, all of the same query.
        load_image: Returns the pixels of an image, uint8 ``(3, H, W)``, given its index.
        heading: Text above the rows, which identifies the query.
        correct_within_m: Distances below this are green and labelled right, others red and
            labelled wrong.
        panel_width_px: Width of each of the four images of a row.
    """
    first = _pixels(load_image, rows[0][1].query)
    panel_height = max(1, round(panel_width_px * first.shape[0] / first.shape[1]))
    width = 4 * panel_width_px + 5 * _GAP_PX
    row_height = _LINE_PX + panel_height + 3
    height = 2 * _LINE_PX + len(rows) * row_height + _GAP_PX
    picture = Image.new("RGB", (width + width % 2, height + height % 2), _PAPER)
    draw = ImageDraw.Draw(picture)
    left = [_GAP_PX + place * (panel_width_px + _GAP_PX) for place in range(4)]
    _text(draw, (left[0], 3), heading, width - 2 * _GAP_PX, bold=True)
    for column, name in zip(left, COLUMNS, strict=True):
        _text(draw, (column, _LINE_PX + 2), name, panel_width_px)
    for place, (name, match) in enumerate(rows):
        top = 2 * _LINE_PX + place * row_height
        query, reference = first, _pixels(load_image, match.reference)
        images = (
            query,
            overlay(query, match.query_map),
            overlay(reference, match.reference_map),
            reference,
        )
        caption, colour = _caption(match, correct_within_m)
        _text(draw, (left[0], top + 3), name, 2 * panel_width_px, bold=True)
        _text(draw, (left[2], top + 3), caption, 2 * panel_width_px, bold=True, ink=colour)
        for column, image in zip(left, images, strict=True):
            picture.paste(
                _fitted(image, panel_width_px, panel_height), (column, top + _LINE_PX)
            )
    return np.asarray(picture)


def save_gradcam(pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Stack pictures of equal width and write them to a PNG."""
    with atomic_write(path) as file:
        Image.fromarray(np.concatenate(pictures)).save(file, format="png", optimize=True)


def _caption(match: GradCamMatch, correct_within_m: float) -> tuple[str, str]:
    is_right = match.distance_m < correct_within_m
    verdict = "right" if is_right else "wrong"
    text = (
        f"{metres(match.distance_m)}: {verdict}; embedding distance "
        f"{match.embedding_distance:.2f}"
    )
    return text, RIGHT if is_right else WRONG


def _pixels(load_image: Callable[[int], Tensor], index: int) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = load_image(index).permute(1, 2, 0).numpy()
    return pixels


def _fitted(image: NDArray[np.uint8], width: int, height: int) -> Image.Image:
    """Return the image centred in a panel, with its aspect ratio."""
    panel = Image.new("RGB", (width, height), _PAPER)
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    panel.paste(small, ((width - size[0]) // 2, (height - size[1]) // 2))
    return panel


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    width_px: int,
    *,
    bold: bool = False,
    ink: str = _INK,
) -> None:
    """Draw one line of text; the middle of a long one is left out."""
    font = _font(bold)
    text = " ".join(text.split())
    kept = len(text)
    while kept > 4 and draw.textlength(_cut(text, kept), font=font) > width_px:
        kept = min(
            kept - 1, int(kept * width_px / draw.textlength(_cut(text, kept), font=font))
        )
    draw.text(place, _cut(text, kept), fill=ink, font=font)


def _cut(text: str, num_kept: int) -> str:
    """Return the text with its middle left out, but for ``num_kept`` characters."""
    if num_kept >= len(text):
        return text
    num_kept = max(num_kept, 4)
    return f"{text[: num_kept // 2]}...{text[-(num_kept - num_kept // 2) :]}"


@cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    """Return the font that matplotlib ships, whichever fonts the system has."""
    from matplotlib import get_data_path

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", name)), 14)


@cache
def _colour_map() -> NDArray[np.float64]:
    """Return the colour map inferno, ``(256, 3)`` in [0, 1]."""
    from matplotlib import colormaps

    colours: NDArray[np.float64] = colormaps["inferno"](np.arange(256))[:, :3]
    return colours
