"""Renders the images of a drive, each on its own: any one can be made without the others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.camera import weather
from mlcore_streets.camera.light import Light, draw_light
from mlcore_streets.camera.raycast import Camera, look
from mlcore_streets.camera.shading import Shot, shade
from mlcore_streets.camera.surfaces import resolve
from mlcore_streets.config import StreetsConfig
from mlcore_streets.scenery import panels
from mlcore_streets.scenery.furniture import LAMP_HEIGHT_M
from mlcore_streets.scenery.panels import Floats, Panels, make
from mlcore_streets.scenery.scene import Scene
from mlcore_streets.scenery.traffic import Traffic, draw_traffic, moving_panels
from mlcore_streets.town.drives import Drive, Frames
from mlcore_streets.town.route import Route

RENDERER_VERSION = 12
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
    def _window_seed(self) -> int:
        return int(self.drive.rng(self.config.town_seed, "windows").integers(2**31))

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
        picture = shade(shot, self.scene, self._light, self._window_seed)
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
        trees = scene.trees[_near(scene.trees, camera)]
        lamps = scene.lamps_m[_near(scene.lamps_m, camera)]
        crown = scene.trunk if bare else scene.crown
        outline = panels.BARE if bare else panels.CROWN
        radius, trunk, height = trees[:, 2:].T
        head = (LAMP_HEIGHT_M - 0.25, LAMP_HEIGHT_M)
        return panels.join(
            [
                _billboards(camera, trees, radius, (0.8 * trunk, height), crown, outline),
                _billboards(camera, trees, 0.16, (0.0, trunk + 0.8), scene.trunk),
                _billboards(camera, lamps, 0.08, (0.0, LAMP_HEIGHT_M), scene.post),
                _billboards(camera, lamps, 0.35, head, scene.lamp),
            ]
        )


def _near(places: Floats, camera: Camera) -> NDArray[np.bool_]:
    distance = np.hypot(places[:, 0] - camera.x_m, places[:, 1] - camera.y_m)
    near: NDArray[np.bool_] = (distance < _SEEN_TREES_M) & (distance > 0.5)
    return near


def _billboards(
    camera: Camera,
    places: Floats,
    half_width_m: Floats | float,
    span_m: tuple[Floats | float, Floats | float],
    texture: int,
    profile: int = panels.FLAT,
) -> Panels:
    """Return panels through ``places`` that face the camera, from bottom to top."""
    towards = places[:, :2] - np.array([camera.x_m, camera.y_m], dtype=np.float32)
    half = np.broadcast_to(np.asarray(half_width_m, dtype=np.float32), len(places))[:, None]
    share = half / np.hypot(towards[:, :1], towards[:, 1:])
    right = np.stack([towards[:, 1], -towards[:, 0]], axis=1) * share
    ends: Floats = np.concatenate([places[:, :2] - right, places[:, :2] + right], axis=1)
    return make(
        ends,
        bottom_m=span_m[0],
        top_m=span_m[1],
        texture=texture,
        back_texture=texture,
        profile=profile,
        faces_camera=True,
    )
