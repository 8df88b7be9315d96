"""Traffic of one drive: who parks along the streets, who comes towards us, who is ahead."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlcore_streets.scenery import panels, vehicles
from mlcore_streets.scenery.panels import Panels
from mlcore_streets.scenery.scene import Scene
from mlcore_streets.town.drives import Drive
from mlcore_streets.town.plan import Plan
from mlcore_streets.town.route import Doubles, Route

_NEAR_M = 75.0


@dataclass(frozen=True)
class Traffic:
    """Vehicles of a drive.

    Attributes:
        parked: Panels of those that stand all day.
        oncoming_m: Where on the route each oncoming vehicle is met.
        oncoming_model: Its number in the fleet.
        stretches_m: ``(S, 2)`` from where to where a vehicle drives ahead of us.
        stretch_model: Its number in the fleet.
        stretch_gap_m: How far ahead it is.
    """

    parked: Panels
    oncoming_m: Doubles
    oncoming_model: list[int]
    stretches_m: Doubles
    stretch_model: list[int]
    stretch_gap_m: Doubles


def draw_traffic(scene: Scene, drive: Drive, route: Route, seed: int) -> Traffic:
    """Return the traffic of a drive."""
    rng = drive.rng(seed, "traffic")
    fleet = len(scene.fleet)
    oncoming = np.cumsum(rng.exponential(45.0, int(route.length_m / 10) + 8)) - 40.0
    oncoming = oncoming[oncoming < route.length_m + 40]
    starts = np.cumsum(rng.exponential(110.0, int(route.length_m / 40) + 4))
    starts = starts[starts < route.length_m]
    return Traffic(
        parked=_park(scene, rng),
        oncoming_m=oncoming,
        oncoming_model=[int(rng.integers(fleet)) for _ in oncoming],
        stretches_m=np.stack([starts, starts + rng.uniform(15, 50, len(starts))], axis=1),
        stretch_model=[int(rng.integers(fleet)) for _ in starts],
        stretch_gap_m=rng.uniform(8.0, 20.0, len(starts)),
    )


def moving_panels(scene: Scene, traffic: Traffic, route: Route, along_m: float) -> list[Panels]:
    """Return the vehicles on the move while we are at ``along_m``."""
    places: list[tuple[int, float, float, float]] = []
    # They come at our speed: each metre of ours brings them two metres nearer.
    ahead = 2 * (traffic.oncoming_m - along_m)
    for number in np.flatnonzero((ahead > -12) & (ahead < _NEAR_M)):
        at = along_m + float(ahead[number])
        side = -float(route.oncoming(np.array([at]))[0])
        places.append((traffic.oncoming_model[number], at, side, np.pi))
    starts, ends = traffic.stretches_m.T
    for number in np.flatnonzero((starts <= along_m) & (along_m < ends)):
        gap = traffic.stretch_gap_m[number]
        places.append((traffic.stretch_model[number], along_m + float(gap), 0.0, 0.0))
    parts = []
    for model, at, side, turn in places:
        point, heading = route.at(np.array([at]), side)
        parts.append(
            vehicles.place(
                scene.fleet[model],
                float(point[0, 0]),
                float(point[0, 1]),
                float(heading[0]) + turn,
            )
        )
    return parts


def _park(scene: Scene, rng: np.random.Generator) -> Panels:
    parts = []
    for x, y, heading in _bays(scene.plan):
        if rng.random() < 0.5:
            model = scene.fleet[rng.integers(len(scene.fleet))]
            if model.length_m < 7:
                shift = rng.uniform(-0.3, 0.3)
                parts.append(vehicles.place(model, x + shift, y + shift, heading))
    return panels.join(parts) if parts else scene.panels.take(np.array([], dtype=np.int64))


def _bays(plan: Plan) -> list[tuple[float, float, float]]:
    """Return x, y and heading of every place to park."""
    return [
        (*street.point(along, across), street.heading_rad(across))
        for street, (start, end) in plan.legs(7.0)
        if street.kind.parking_m is not None
        for along in np.arange(start, end, 6.2).tolist()
        for across in (-street.kind.parking_m, street.kind.parking_m)
    ]
