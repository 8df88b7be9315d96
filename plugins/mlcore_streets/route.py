"""The route through a district, and the poses of one drive along it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.town import Plan, Street

Doubles = NDArray[np.float64]

_STEP_M = 0.25
_RUN_OUT_M = 60.0
"""The path goes on beyond both ends, for the traffic ahead and behind."""


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
    nodes = _walk(plan, length_m + 2 * _RUN_OUT_M, rng)
    points, second, oncoming = _lane_path(plan, nodes)
    return _resampled(points, second, oncoming, length_m)


def _walk(plan: Plan, length_m: float, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Return crossings (column, row) in the order they are passed."""
    columns, rows = len(plan.northward), len(plan.eastward)
    node = (int(rng.integers(columns)), int(rng.integers(rows)))
    nodes = [node]
    used: dict[tuple[tuple[int, int], tuple[int, int]], int] = {}
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


def _neighbours(node: tuple[int, int], columns: int, rows: int) -> list[tuple[int, int]]:
    column, row = node
    around = [(column + 1, row), (column - 1, row), (column, row + 1), (column, row - 1)]
    return [(c, r) for c, r in around if 0 <= c < columns and 0 <= r < rows]


def _crossing(plan: Plan, node: tuple[int, int]) -> Doubles:
    return np.array([plan.northward[node[0]].at_m, plan.eastward[node[1]].at_m])


def _street_between(plan: Plan, node: tuple[int, int], other: tuple[int, int]) -> Street:
    return plan.northward[node[0]] if node[0] == other[0] else plan.eastward[node[1]]


def _lane_path(plan: Plan, nodes: list[tuple[int, int]]) -> tuple[Doubles, Doubles, Doubles]:
    """Return the lane's middle as corner points with curves, and the lanes beside it."""
    points: list[Doubles] = []
    second: list[float] = []
    oncoming: list[float] = []
    legs = list(pairwise(nodes))
    for number, (node, other) in enumerate(legs):
        kind = _street_between(plan, node, other).kind
        start, end = _crossing(plan, node), _crossing(plan, other)
        ahead = (end - start) / np.linalg.norm(end - start)
        right = np.array([ahead[1], -ahead[0]])
        offset = right * kind.lane_m
        turning_in = number > 0 and not _straight(nodes[number - 1 : number + 2])
        turning_out = number + 1 < len(legs) and not _straight(nodes[number : number + 3])
        entry = start + offset + ahead * (11.0 if turning_in else 1.0)
        leave = end + offset - ahead * (11.0 if turning_out else 1.0)
        corner = [entry]
        if turning_in:
            control = _corner(points[-1], nodes[number - 1], node, plan, entry, ahead)
            t = np.linspace(0, 1, 12)[1:, None]
            corner = list((1 - t) ** 2 * points[-1] + 2 * t * (1 - t) * control + t**2 * entry)
        beside = 0.0 if kind.other_lane_m is None else kind.other_lane_m - kind.lane_m
        for point in (*corner, leave):
            points.append(point)
            second.append(beside)
            oncoming.append(2 * kind.lane_m)
    return np.array(points), np.array(second), np.array(oncoming)


def _straight(nodes: list[tuple[int, int]]) -> bool:
    (c0, r0), _, (c2, r2) = nodes
    return c0 == c2 or r0 == r2


def _corner(
    previous: Doubles,
    before: tuple[int, int],
    node: tuple[int, int],
    plan: Plan,
    entry: Doubles,
    ahead: Doubles,
) -> Doubles:
    """Return where the lane driven and the lane turned into meet."""
    came = _crossing(plan, node) - _crossing(plan, before)
    came = came / np.linalg.norm(came)
    return previous + came * float((entry - previous) @ came) - ahead * 0.0


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
