"""The route through a district, and the poses of one drive along it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.town.plan import Plan, Street, StreetKind

Doubles = NDArray[np.float64]

Node = tuple[int, int]
"""A crossing: its column and row."""

_STEP_M = 0.25
_RUN_OUT_M = 60.0
"""The path extends beyond both ends, for the traffic ahead and behind."""

_TURN_M = 4.0
"""A turn begins so far before the kerb of the street turned into."""


@dataclass(frozen=True)
class Route:
    """A drivable path, sampled every ``_STEP_M``.

    Attributes:
        points_m: ``(S, 2)`` middle of the driven lane.
        heading_rad: ``(S,)`` unwrapped, clockwise from north.
        second_lane_m: ``(S,)`` how far right a second lane lies, 0 where there is none.
        oncoming_m: ``(S,)`` how far left the oncoming lane lies.
        length_m: Without the run-out at either end.
    """

    points_m: Doubles
    heading_rad: Doubles
    second_lane_m: Doubles
    oncoming_m: Doubles
    length_m: float

    def at(self, along_m: Doubles, right_m: Doubles | float = 0.0) -> tuple[Doubles, Doubles]:
        """Return points ``(N, 2)`` and headings ``(N,)`` so far along and to the right."""
        heading = self._interpolate(along_m, self.heading_rad)
        middle = np.stack([self._interpolate(along_m, axis) for axis in self.points_m.T], 1)
        right = np.stack([np.cos(heading), -np.sin(heading)], axis=1)
        return middle + np.broadcast_to(right_m, heading.shape)[:, None] * right, heading

    def _interpolate(self, along_m: Doubles, values: Doubles) -> Doubles:
        steps = (np.asarray(along_m) + _RUN_OUT_M) / _STEP_M
        return np.interp(steps, np.arange(len(values)), values)

    def second_lane(self, along_m: Doubles) -> Doubles:
        """Return how far right the second lane lies."""
        return self._interpolate(along_m, self.second_lane_m)

    def oncoming(self, along_m: Doubles) -> Doubles:
        """Return how far left the oncoming lane lies."""
        return self._interpolate(along_m, self.oncoming_m)


def draw_route(plan: Plan, length_m: float, rng: np.random.Generator) -> Route:
    """Return a route of that length that prefers streets not yet driven."""
    # Corners are cut: the path is shorter than the streets it follows.
    nodes = _walk(plan, 1.25 * (length_m + 2 * _RUN_OUT_M), rng)
    points, second, oncoming = _lane_path(_legs(plan, nodes))
    return _resampled(points, second, oncoming, length_m)


def _walk(plan: Plan, length_m: float, rng: np.random.Generator) -> list[Node]:
    """Return crossings (column, row) in the order they are passed."""
    columns, rows = len(plan.northward), len(plan.eastward)
    node = (int(rng.integers(columns)), int(rng.integers(rows)))
    nodes = [node]
    used: dict[tuple[Node, Node], int] = {}
    total = 0.0
    while total < length_m:
        options = [
            other
            for other in _neighbours(node, columns, rows)
            if len(nodes) < 2 or other != nodes[-2]
        ]
        options = [options[i] for i in rng.permutation(len(options))]
        best = min(
            options, key=lambda other: (used.get((node, other), 0), used.get((other, node), 0))
        )
        used[node, best] = used.get((node, best), 0) + 1
        total += float(np.abs(_crossing(plan, best) - _crossing(plan, node)).sum())
        nodes.append(best)
        node = best
    return nodes


def _neighbours(node: Node, columns: int, rows: int) -> list[Node]:
    column, row = node
    around = [(column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1)]
    return [(c, r) for c, r in around if 0 <= c < columns and 0 <= r < rows]


def _crossing(plan: Plan, node: Node) -> Doubles:
    return np.array([plan.northward[node[0]].at_m, plan.eastward[node[1]].at_m])


@dataclass(frozen=True)
class _Leg:
    """A street from one crossing to the next, as it is driven."""

    start_m: Doubles
    end_m: Doubles
    kind: StreetKind
    cut_start_m: float
    cut_end_m: float

    @property
    def ahead(self) -> Doubles:
        way = self.end_m - self.start_m
        direction: Doubles = way / np.linalg.norm(way)
        return direction

    @property
    def lane(self) -> Doubles:
        """From the middle of the street to that of the lane."""
        east, north = self.ahead
        return self.kind.lane_m * np.array([north, -east])

    @property
    def entry(self) -> Doubles:
        point: Doubles = self.start_m + self.lane + self.cut_start_m * self.ahead
        return point

    @property
    def leave(self) -> Doubles:
        point: Doubles = self.end_m + self.lane - self.cut_end_m * self.ahead
        return point


def _legs(plan: Plan, nodes: Sequence[Node]) -> list[_Leg]:
    return [
        _Leg(
            _crossing(plan, node),
            _crossing(plan, other),
            _street_between(plan, node, other).kind,
            _cut(plan, nodes[max(number - 1, 0)], node, other),
            _cut(plan, nodes[min(number + 2, len(nodes) - 1)], other, node),
        )
        for number, (node, other) in enumerate(pairwise(nodes))
    ]


def _street_between(plan: Plan, node: Node, other: Node) -> Street:
    return plan.northward[node[0]] if node[0] == other[0] else plan.eastward[node[1]]


def _cut(plan: Plan, beyond: Node, node: Node, back: Node) -> float:
    """Return how far from crossing ``node``, towards ``back``, a turn begins or ends."""
    if beyond == node or beyond[0] == back[0] or beyond[1] == back[1]:
        return 1.0
    return _street_between(plan, beyond, node).kind.kerb_m + _TURN_M


def _turn(coming: _Leg, going: _Leg) -> Doubles:
    """Return points of the curve from one leg to the next, without its first."""
    start, end = coming.leave, going.entry
    corner = start + coming.ahead * float((end - start) @ coming.ahead)
    t = np.linspace(0, 1, 12)[1:, None]
    curve: Doubles = (1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end
    return curve


def _lane_path(legs: Sequence[_Leg]) -> tuple[Doubles, Doubles, Doubles]:
    """Return points along the lane, and how far the lanes beside it lie at each."""
    points: list[Doubles] = []
    for number, leg in enumerate(legs):
        begin = leg.entry[None] if number == 0 else _turn(legs[number - 1], leg)
        points.append(np.concatenate([begin, leg.leave[None]]))
    sizes = [len(part) for part in points]
    second = [(leg.kind.other_lane_m or leg.kind.lane_m) - leg.kind.lane_m for leg in legs]
    oncoming = [2 * leg.kind.lane_m for leg in legs]
    return np.concatenate(points), np.repeat(second, sizes), np.repeat(oncoming, sizes)


def _resampled(points: Doubles, second: Doubles, oncoming: Doubles, length_m: float) -> Route:
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0, length_m + 2 * _RUN_OUT_M, _STEP_M)
    dense = np.stack([np.interp(at, along, axis) for axis in points.T], axis=1)
    step = np.gradient(dense, axis=0)
    heading = np.unwrap(np.arctan2(step[:, 0], step[:, 1]))
    return Route(
        points_m=dense,
        heading_rad=_smooth(heading, 17),
        second_lane_m=_smooth(np.interp(at, along, second), 81),
        oncoming_m=_smooth(np.interp(at, along, oncoming), 41),
        length_m=length_m,
    )


def _smooth(values: Doubles, width: int) -> Doubles:
    """Return the running mean over ``width`` samples."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), mode="valid")
