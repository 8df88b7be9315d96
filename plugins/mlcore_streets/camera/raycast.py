"""Which panel each pixel shows: one ray a column, the nearest panels painted over the far.

Shapes: ``P`` panels, ``K`` layers, ``W`` columns and ``H`` rows of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.scenery.panels import PROFILE_STEPS, Floats, Ints, Panels, profiles

NUM_LAYERS = 10
FARTHEST_M = 150.0
_NEAREST_M = 0.25
_PROFILES = profiles()

SKY, GROUND = NUM_LAYERS, NUM_LAYERS + 1
"""Values of ``View.layer`` where no panel is seen."""


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A level pinhole camera.

    Attributes:
        x_m: Position, east.
        y_m: Position, north.
        height_m: Above the ground.
        heading_rad: Clockwise from north.
        horizon_px: Row at which the horizon lies.
        focal_px: Focal length.
        width_px: Columns.
        height_px: Rows.
    """

    x_m: float
    y_m: float
    height_m: float
    heading_rad: float
    horizon_px: float
    focal_px: float
    width_px: int
    height_px: int

    @property
    def slopes(self) -> Floats:
        """``(W,)`` metres to the right for each metre ahead."""
        columns = np.arange(self.width_px, dtype=np.float32) + 0.5 - self.width_px / 2
        return columns / np.float32(self.focal_px)

    @property
    def axes(self) -> tuple[Floats, Floats]:
        """Unit vectors ahead and to the right."""
        sine, cosine = np.sin(self.heading_rad), np.cos(self.heading_rad)
        ahead = np.array([sine, cosine], dtype=np.float32)
        return ahead, np.array([cosine, -sine], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class View:
    """What is seen, by layer and column, and which layer each pixel shows.

    Attributes:
        layer: ``(H, W)`` uint8: 0 the nearest panel, ``SKY`` or ``GROUND``.
        panel: ``(K, W)`` row in the panels.
        depth_m: ``(K, W)`` distance along the optical axis; inf where nothing is hit.
        along: ``(K, W)`` where the panel is hit, 0 at the left end as seen, below 1.
        from_front: ``(K, W)`` whether its front is seen.
        top_row: ``(K, W)`` row of the texture's upper edge (not of the outline).
        bottom_row: ``(K, W)`` row of the texture's lower edge.
    """

    layer: NDArray[np.uint8]
    panel: Ints
    depth_m: Floats
    along: Floats
    from_front: NDArray[np.bool_]
    top_row: Floats
    bottom_row: Floats


def look(camera: Camera, panels: Panels) -> View:
    """Cast the rays of a camera."""
    right, ahead = _in_camera_frame(camera, panels.ends_m)
    visible = _may_be_seen(camera, right, ahead)
    # Front and back in the camera's frame, which is turned, not mirrored.
    fronts = right[:, 1] * ahead[:, 0] > right[:, 0] * ahead[:, 1]
    visible &= fronts | (panels.back_texture >= 0)
    rows = np.flatnonzero(visible)
    # One more that every ray misses, so that there is always something to choose.
    rows = np.append(rows, 0)
    depth, along = _intersections(camera.slopes, right[rows], ahead[rows])
    depth[:, -1] = np.inf
    order = _nearest(depth)
    columns = np.arange(camera.width_px)
    panel = rows[order]
    seen_depth = depth[columns, order]
    # A ray that hits nothing has a layer all the same, of which no pixel is shown.
    seen_along = along[columns, order].clip(0, np.float32(0.99999))
    front = fronts[panel]
    bottom, top = panels.bottom_m[panel], panels.top_m[panel]
    step = (seen_along * PROFILE_STEPS).astype(np.int64).clip(0, PROFILE_STEPS - 1)
    outline = panels.profile[panel]
    scale = np.float32(camera.focal_px) / seen_depth
    full = (top - bottom) * scale
    bottom_row = np.float32(camera.horizon_px) + (np.float32(camera.height_m) - bottom) * scale
    upper = bottom_row - full * _PROFILES[outline, 1, step]
    lower = bottom_row - full * _PROFILES[outline, 0, step]
    return View(
        layer=_paint(camera, upper, lower, seen_depth),
        panel=panel,
        depth_m=seen_depth,
        along=np.where(front, seen_along, np.float32(1) - seen_along),
        from_front=front,
        top_row=bottom_row - full,
        bottom_row=bottom_row,
    )


def _in_camera_frame(camera: Camera, ends_m: Floats) -> tuple[Floats, Floats]:
    """Return ``(P, 2)`` metres to the right and ahead of both ends."""
    ahead, right = camera.axes
    x, y = ends_m[:, ::2] - np.float32(camera.x_m), ends_m[:, 1::2] - np.float32(camera.y_m)
    return x * right[0] + y * right[1], x * ahead[0] + y * ahead[1]


def _may_be_seen(camera: Camera, right: Floats, ahead: Floats) -> NDArray[np.bool_]:
    edge = np.float32(camera.width_px / 2 / camera.focal_px) * ahead
    hidden = (ahead < _NEAREST_M) | (ahead > FARTHEST_M)
    outside = (right > edge).all(axis=1) | (right < -edge).all(axis=1)
    seen: NDArray[np.bool_] = np.logical_not(hidden.all(axis=1) | outside)
    return seen


def _intersections(slopes: Floats, right: Floats, ahead: Floats) -> tuple[Floats, Floats]:
    """Return depth (inf where a ray misses) and place along the panel, ``(W, P)`` each."""
    d_right, d_ahead = right[:, 1] - right[:, 0], ahead[:, 1] - ahead[:, 0]
    slope = slopes[:, None]
    across = d_right - slope * d_ahead
    across[np.abs(across) < 1e-6] = 1e-6
    along = (slope * ahead[:, 0] - right[:, 0]) / across
    depth = ahead[:, 0] + along * d_ahead
    missed = (along < 0) | (along >= 1) | (depth < _NEAREST_M) | (depth > FARTHEST_M)
    depth[missed] = np.inf
    return depth, along


def _nearest(depth: Floats) -> Ints:
    """Return the nearest ``NUM_LAYERS`` panels of each column, ``(K, W)``."""
    left = depth.copy()
    columns = np.arange(len(depth))
    order = np.empty((NUM_LAYERS, len(depth)), dtype=np.int64)
    for layer in range(NUM_LAYERS):
        order[layer] = left.argmin(axis=1)
        left[columns, order[layer]] = np.inf
    return order


def _paint(camera: Camera, upper: Floats, lower: Floats, depth: Floats) -> NDArray[np.uint8]:
    rows = np.arange(camera.height_px, dtype=np.float32)[:, None] + np.float32(0.5)
    layer = np.empty((camera.height_px, camera.width_px), dtype=np.uint8)
    layer[:] = np.where(rows < camera.horizon_px, SKY, GROUND)
    for number in range(NUM_LAYERS - 1, -1, -1):
        hit = np.isfinite(depth[number])
        shown = (rows >= upper[number]) & (rows < lower[number]) & hit
        layer[shown] = number
    return layer
