"""A picture of a town: the same places in every condition, and a map of the districts.

``python -m mlcore_streets.contact_sheet OUT.png [--town-seed N]`` writes it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlcore_streets.config import StreetsConfig
from mlcore_streets.districts import District, draw_districts, renderers
from mlcore_streets.scenery.scene import RASTER_M, build_scene

_PLACES = 5
_GAP_PX = 4
_MAP_LEVEL = 2
_MAP_PX_PER_M = 1.0
_PAPER = (255, 255, 255)
_ROUTE = (214, 40, 40)

Picture = NDArray[np.uint8]


def contact_sheet(config: StreetsConfig, num_places: int = _PLACES) -> Image.Image:
    """Return places of the test district, one per column and one row per drive."""
    districts = draw_districts(config)
    test = districts[-1]
    places_m = np.linspace(0, test.route.length_m, num_places + 2)[1:-1]
    rows = []
    for renderer, _ in renderers(config, districts, test.first_index[0], test.stop_index):
        along = renderer.frames.along_m
        nearest = [int(np.abs(along - place).argmin()) for place in places_m]
        rows.append([Image.fromarray(renderer.render(number)) for number in nearest])
    return _tiled(rows)


def town_map(config: StreetsConfig) -> Image.Image:
    """Return the districts side by side, a metre a pixel, north of their grids up."""
    return _tiled([[_district_map(config, district) for district in draw_districts(config)]])


def _district_map(config: StreetsConfig, district: District) -> Image.Image:
    scene = build_scene(config.town_seed, district.name, district.plan)
    ground = scene.ground.levels[_MAP_LEVEL]
    picture: Picture = ground[..., None].view(np.uint8)[..., :3].copy()
    step = round(1 / (_MAP_PX_PER_M * RASTER_M))
    heights = scene.heights_m[::step, ::step][: picture.shape[0], : picture.shape[1]]
    shade = (200 - 6 * np.clip(heights, 0, 20)).astype(np.uint8)
    rows, columns = np.nonzero(heights)
    picture[rows, columns] = shade[rows, columns, None]
    image = Image.fromarray(picture[::-1].copy())
    points = district.route.points_m * _MAP_PX_PER_M
    line = [(float(x), image.height - 1 - float(y)) for x, y in points[::8]]
    ImageDraw.Draw(image).line(line, fill=_ROUTE, width=2)
    return image


def _tiled(rows: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return the images in rows, each row as high as its highest."""
    heights = [max(image.height for image in row) for row in rows]
    widths = [sum(image.width + _GAP_PX for image in row) - _GAP_PX for row in rows]
    size = (max(widths), sum(heights) + _GAP_PX * (len(rows) - 1))
    sheet = Image.new("RGB", size, _PAPER)
    top = 0
    for row, height in zip(rows, heights, strict=True):
        left = 0
        for image in row:
            sheet.paste(image, (left, top))
            left += image.width + _GAP_PX
        top += height + _GAP_PX
    return sheet


def main(argv: Sequence[str] | None = None) -> None:
    """Write the contact sheet above the map."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="PNG file to write")
    parser.add_argument("--town-seed", type=int, default=0, help="the town to draw")
    arguments = parser.parse_args(argv)
    config = StreetsConfig(town_seed=arguments.town_seed)
    sheet, plan = contact_sheet(config), town_map(config)
    sheet = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST)
    plan = plan.resize((sheet.width, round(plan.height * sheet.width / plan.width)))
    both = _tiled([[sheet], [plan]])
    both.quantize(192, kmeans=2, dither=Image.Dither.NONE).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
