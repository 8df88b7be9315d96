"""How ``streets`` draws: rays, panels, shadows, vehicles and the way through a district."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore_streets.camera.light import shadow_top
from mlcore_streets.camera.raycast import GROUND, SKY, Camera, look
from mlcore_streets.scenery import panels
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.panels import make
from mlcore_streets.scenery.textures import NUM_LEVELS, build_atlas, canvas, fill, plain
from mlcore_streets.scenery.vehicles import VehicleModel, place
from mlcore_streets.town.plan import KINDS, Street, draw_plan
from mlcore_streets.town.route import draw_route
from mlcore_streets.town.seeds import stream

NORTHWARD = Camera(
    x_m=0.0,
    y_m=0.0,
    height_m=2.0,
    heading_rad=0.0,
    horizon_px=30.0,
    focal_px=50.0,
    width_px=100,
    height_px=60,
)


def wall(y_m: float, *, height_m: float = 4.0, **options: int) -> panels.Panels:
    """A wall across the view, its front towards a camera that looks north."""
    return make([[-50.0, y_m, 50.0, y_m]], top_m=height_m, texture=0, **options)


def test_a_wall_is_as_high_as_a_pinhole_camera_sees_it() -> None:
    view = look(NORTHWARD, wall(10.0))
    column = view.layer[:, 50]
    # 2 m below and 2 m above the camera at 10 m, with a focal length of 50 px: 10 px each.
    assert (np.flatnonzero(column == 0) == np.arange(20, 40)).all()
    assert (column[:20] == SKY).all()
    assert (column[40:] == GROUND).all()
    assert view.depth_m[0, 50] == pytest.approx(10.0)
    assert (np.diff(view.along[0]) > 0).all()


def test_near_walls_hide_far_ones_up_to_their_height() -> None:
    view = look(NORTHWARD, panels.join([wall(20.0, height_m=20.0), wall(10.0)]))
    column = view.layer[:, 50]
    assert (view.panel[column[25], 50], view.panel[column[10], 50]) == (1, 0)
    assert view.depth_m[:2, 50] == pytest.approx([10.0, 20.0])


def test_a_panel_is_seen_from_behind_only_if_it_has_a_back() -> None:
    turned = make([[50.0, 10.0, -50.0, 10.0]], top_m=4.0, texture=0)
    assert not (look(NORTHWARD, turned).layer == 0).any()
    backed = make([[50.0, 10.0, -50.0, 10.0]], top_m=4.0, texture=0, back_texture=0)
    view = look(NORTHWARD, backed)
    assert (view.layer == 0).any()
    assert not view.from_front[0].any()
    assert (np.diff(view.along[0]) > 0).all()


@settings(max_examples=40, deadline=None)
@given(
    heading=st.floats(-np.pi, np.pi),
    ahead=st.floats(2.0, 40.0),
    side=st.floats(-0.9, 0.9),
)
def test_rays_hit_where_explicit_geometry_says(
    heading: float, ahead: float, side: float
) -> None:
    camera = Camera(**{**vars(NORTHWARD), "heading_rad": heading, "x_m": 100.0, "y_m": -40.0})
    forward = np.array([np.sin(heading), np.cos(heading)])
    right = np.array([np.cos(heading), -np.sin(heading)])
    middle = np.array([100.0, -40.0]) + ahead * forward + side * ahead * right
    ends = [[*(middle - 0.6 * right), *(middle + 0.6 * right)]]
    view = look(camera, make(ends, top_m=3.0, texture=0))
    column = int(50 + 50 * side)
    assert view.depth_m[0, column] == pytest.approx(ahead, rel=1e-3)


def test_an_image_does_not_depend_on_what_lies_behind_the_camera() -> None:
    scene = panels.join([wall(10.0), wall(-5.0), wall(300.0)])
    alone = look(NORTHWARD, wall(10.0))
    np.testing.assert_array_equal(look(NORTHWARD, scene).layer, alone.layer)


def test_shadows_fall_away_from_the_sun_and_end_at_its_slope() -> None:
    heights = np.zeros((80, 80), dtype=np.float32)
    heights[38:42, 38:42] = 10.0
    # From the east at 45 degrees: 10 m of shadow, 20 cells, to the west.
    shadow = shadow_top(heights, (np.sqrt(0.5), 0.0, np.sqrt(0.5)))
    row = shadow[40]
    assert (np.flatnonzero(row > 0.25) == np.arange(19, 41)).all()
    assert row[30] == pytest.approx(10.0 - 0.5 * 8)
    assert not shadow[30].any()


def test_the_atlas_halves_and_keeps_materials() -> None:
    texture = canvas(16, 32, (200.0, 100.0, 50.0), Material.ROAD)
    fill(texture, (0, 8), (0, 32), (100.0, 50.0, 10.0), Material.ROOF)
    atlas = build_atlas([plain((1.0, 2.0, 3.0)), texture])
    for level in range(NUM_LEVELS):
        first, width = atlas.start[level, 1], atlas.width[level, 1]
        size = width * atlas.height[level, 1]
        texels = atlas.texels[first : first + size].view(np.uint8).reshape(-1, 4)
        assert width == max(2, 32 >> level)
        if level < 4:  # a single row of both colours
            np.testing.assert_array_equal(texels[0], [100, 50, 10, Material.ROOF])
            np.testing.assert_array_equal(texels[-1], [200, 100, 50, Material.ROAD])


def test_vehicles_point_where_they_go() -> None:
    model = VehicleModel(4.0, 2.0, 1.5, panels.FLAT, side=1, front=2, rear=3, top=4, window=5)
    for heading in np.linspace(-3, 3, 7):
        parts = place(model, 10.0, 20.0, heading)
        front = parts.take(parts.texture == 2)
        ends = front.ends_m[0].reshape(2, 2)
        ahead = np.array([np.sin(heading), np.cos(heading)])
        np.testing.assert_allclose(ends.mean(axis=0) - [10, 20], 2 * ahead, atol=1e-5)
        way = ends[1] - ends[0]
        outward = np.array([way[1], -way[0]])
        assert outward @ ahead > 0


def test_streets_place_things_beside_themselves_and_keep_right() -> None:
    north = Street(100.0, 300.0, KINDS["street"], northward=True)
    east = Street(50.0, 300.0, KINDS["street"], northward=False)
    assert north.point(7.0, 2.0) == (102.0, 7.0)
    assert east.point(7.0, 2.0) == (7.0, 52.0)
    assert east.box((0.0, 10.0), (-1.0, 1.0)) == (0.0, 49.0, 10.0, 51.0)
    assert [north.heading_rad(side) for side in (1, -1)] == [0.0, np.pi]
    assert [east.heading_rad(side) for side in (-1, 1)] == [np.pi / 2, -np.pi / 2]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), length=st.floats(60.0, 1500.0))
def test_routes_stay_on_the_right_of_streets(seed: int, length: float) -> None:
    plan = draw_plan(seed, "test", length)
    route = draw_route(plan, length, stream(seed, "test", "route"))
    along = np.arange(0.0, length, 1.0)
    points, heading = route.at(along)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert ((steps > 0.9) & (steps < 1.01)).all()
    turn = np.abs(np.diff(heading))
    assert turn.max() < np.radians(30)
    on_road = np.zeros(len(points), dtype=bool)
    for street in plan.streets:
        across = (points[:, 0] if street.northward else points[:, 1]) - street.at_m
        on_road |= np.abs(across) < street.kind.kerb_m
        course = np.cos(heading) if street.northward else -np.sin(heading)
        parallel = (np.abs(course) > 0.9999) & (np.abs(across) < street.kind.front_m)
        beside = across[parallel] * np.sign(course[parallel])
        np.testing.assert_allclose(beside, street.kind.lane_m, atol=0.35)
    assert on_road.all()
