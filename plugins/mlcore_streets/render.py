"""Renders the images of a drive, each on its own: any one can be made without the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlcore_streets import panels, weather
from mlcore_streets.config import StreetsConfig
from mlcore_streets.drives import Drive, Frames
from mlcore_streets.light import Light, draw_light
from mlcore_streets.panels import Floats, Panels, make
from mlcore_streets.raycast import Camera, look
from mlcore_streets.route import Route
from mlcore_streets.scene import LAMP_HEIGHT_M, Scene
from mlcore_streets.shading import Shot, shade
from mlcore_streets.surfaces import resolve
from mlcore_streets.traffic import Traffic, draw_traffic, moving_panels

RENDERER_VERSION = 1
"""Raised with every change of what images look like; caches of another one are unused."""

_FIELD_OF_VIEW = 2 * np.tan(np.radians(84) / 2)
_HORIZON = 0.62
_CAMERA_HEIGHT_M = 1.9
_SEEN_TREES_M = 90.0


@dataclass(frozen=True)
class DriveRenderer:
    """Renders the images of one drive.

    Attributes:
        config: Size of the images and the town's seed.
        scene: The district.
        route: The way through it.
        drive: Weather and name.
        frames: Where the images are taken.
    """

    config: StreetsConfig
    scene: Scene
    route: Route
    drive: Drive
    frames: Frames

    @cached_property
    def _light(self) -> Light:
        return draw_light(self.scene, self.drive, self.config.town_seed)

    @cached_property
    def _traffic(self) -> Traffic:
        return draw_traffic(self.scene, self.drive, self.route, self.config.town_seed)

    @cached_property
    def _clouds(self) -> Floats:
        return weather.draw_clouds(self.drive.rng(self.config.town_seed, "clouds"))

    @cached_property
    def _standing(self) -> Panels:
        return panels.join([self.scene.panels, self._traffic.parked])

    def render(self, number: int) -> NDArray[np.uint8]:
        """Return image ``number`` of the drive, ``(H, W, 3)``."""
        rng = self.drive.rng(self.config.town_seed, "image", number)
        camera = self._camera(number)
        along = float(self.frames.along_m[number])
        moving = moving_panels(self.scene, self._traffic, self.route, along)
        upright = self._upright(camera)
        everything = panels.join([self._standing, *moving, upright])
        view = look(camera, everything)
        surfaces = resolve(camera, view, everything, self.scene.atlas, self.scene.ground)
        shot = Shot(camera=camera, view=view, panels=everything, surfaces=surfaces)
        night_seed = int(self.drive.rng(self.config.town_seed, "windows").integers(2**31))
        picture = shade(shot, self.scene, self._light, night_seed)
        condition = self.drive.condition
        weather.paint_sky(picture, surfaces, camera, self._light, self._clouds)
        if condition.wet:
            weather.mirror_in_road(picture, surfaces, condition.wet, rng)
        if condition.flakes:
            weather.add_flakes(picture, condition, rng)
        if condition.drops:
            weather.add_drops(picture, condition, rng)
        return weather.expose(picture, self._light, rng)

    def _camera(self, number: int) -> Camera:
        width, height = self.config.image_width_px, self.config.image_height_px
        return Camera(
            x_m=float(self.frames.positions_m[number, 0]),
            y_m=float(self.frames.positions_m[number, 1]),
            height_m=_CAMERA_HEIGHT_M,
            heading_rad=float(self.frames.headings_rad[number]),
            horizon_px=float((_HORIZON + self.frames.tilt[number]) * height),
            focal_px=float(width / _FIELD_OF_VIEW),
            width_px=width,
            height_px=height,
        )

    def _upright(self, camera: Camera) -> Panels:
        """Return trees and lamps, turned towards the camera."""
        scene = self.scene
        bare = bool(self.drive.condition.snow)
        trees = np.array(
            [(t.x_m, t.y_m, t.radius_m, t.trunk_m, t.height_m) for t in scene.trees],
            dtype=np.float32,
        ).reshape(-1, 5)
        trees = trees[_near(trees, camera)]
        lamps = scene.lamps_m[_near(scene.lamps_m, camera)]
        size = np.ones(len(lamps), dtype=np.float32)
        return panels.join(
            [
                _billboards(camera, trees, trees[:, 2], trees[:, 3] * 0.8, trees[:, 4],
                            scene.trunk if bare else scene.crown,
                            panels.BARE if bare else panels.CROWN),
                _billboards(camera, trees, 0.16 * np.ones(len(trees)), 0.0,
                            trees[:, 3] + 0.8, scene.trunk, panels.FLAT),
                _billboards(camera, lamps, 0.08 * size, 0.0, LAMP_HEIGHT_M, scene.post,
                            panels.FLAT),
                _billboards(camera, lamps, 0.35 * size, LAMP_HEIGHT_M - 0.25, LAMP_HEIGHT_M,
                            scene.lamp, panels.FLAT),
            ]
        )  # fmt: skip


def _near(places: Floats, camera: Camera) -> NDArray[np.bool_]:
    distance = np.hypot(places[:, 0] - camera.x_m, places[:, 1] - camera.y_m)
    return (distance < _SEEN_TREES_M) & (distance > 0.5)


def _billboards(
    camera: Camera,
    places: Floats,
    half_width: Floats,
    bottom: Floats | float,
    top: Floats | float,
    texture: int,
    profile: int,
) -> Panels:
    """Return panels through ``places`` that face the camera."""
    towards = places[:, :2] - np.array([camera.x_m, camera.y_m], dtype=np.float32)
    distance = np.hypot(towards[:, 0], towards[:, 1])[:, None]
    right = np.stack([towards[:, 1], -towards[:, 0]], axis=1) / distance * half_width[:, None]
    ends = np.concatenate([places[:, :2] - right, places[:, :2] + right], axis=1)
    return make(
        ends,
        bottom_m=bottom,
        top_m=top,
        texture=texture,
        back_texture=texture,
        profile=profile,
        faces_camera=True,
    )
