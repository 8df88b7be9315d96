"""Latitude and longitude, UTM zones, and metres in one frame per region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import require_library

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

REGIONS_APART_M = 100e3
"""Groups of images farther apart than this are regions."""
ONE_PLACE_M = 5e3
"""Images of two UTM zones this near to each other are of one region."""
_CELL_DEG = 0.1
_FEWEST_IMAGES = 10
"""Fewer images that lie alone are wrong positions rather than a city."""
_EARTH_RADIUS_M = 6_371_000.0


@dataclass(frozen=True, order=True)
class Zone:
    """A UTM zone of one hemisphere.

    Attributes:
        number: 1 to 60.
        is_south: Whether northings count from the South Pole's side, as bands C to M do.
    """

    number: int
    is_south: bool

    def __str__(self) -> str:
        return f"{self.number}{'S' if self.is_south else 'N'}"

    @property
    def epsg(self) -> int:
        """The code of its coordinate system."""
        return (32700 if self.is_south else 32600) + self.number

    @property
    def meridian_deg(self) -> float:
        """Longitude of its middle."""
        return 6.0 * self.number - 183.0

    @classmethod
    def of(cls, longitude_deg: Floats, latitude_deg: Floats) -> Zone:
        """Return the zone that holds the median of some positions.

        Rows in wrong places do not move it as long as they are fewer than half.
        """
        zones = ((longitude_deg + 180.0) // 6.0).astype(np.int64) % 60
        centre_deg = 6.0 * np.bincount(zones).argmax() - 177.0
        # Counted from the most frequent zone, for data that cross the 180th meridian.
        middle_deg = centre_deg + np.median(turn_deg(longitude_deg - centre_deg))
        number = int((middle_deg + 180.0) // 6.0) % 60 + 1
        return cls(number, is_south=float(np.median(latitude_deg)) < 0.0)


def turn_deg(angle_deg: Floats) -> Floats:
    """Return angles wrapped to [-180, 180)."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def project(longitude_deg: Floats, latitude_deg: Floats, zone: Zone) -> Floats:
    """Return easting and northing ``(N, 2)`` in a zone; infinite where that is impossible.

    Raises:
        ConfigError: pyproj is not installed.
    """
    return _transformed(4326, zone.epsg, longitude_deg, latitude_deg)


def change_zone(positions_m: Floats, source: Zone, target: Zone) -> Floats:
    """Return positions ``(N, 2)`` of one zone in the frame of another.

    Raises:
        ConfigError: pyproj is not installed.
    """
    return _transformed(source.epsg, target.epsg, positions_m[:, 0], positions_m[:, 1])


def _transformed(source: int, target: int, x: Floats, y: Floats) -> Floats:
    require_library("latitude, longitude and UTM zones", "pyproj", "mlcore-localization[geo]")
    from pyproj import Transformer

    transformer = Transformer.from_crs(f"EPSG:{source}", f"EPSG:{target}", always_xy=True)
    found: Floats = np.stack(transformer.transform(x, y), axis=1)
    return found


def groups_of(longitude_deg: Floats, latitude_deg: Floats) -> Codes:
    """Return groups ``(N,)`` of images more than 100 km apart, the largest first, from 0.

    Distances are those between cells of 0.1 degrees. A few images alone are no group, but
    belong to the largest: they are wrong positions rather than a city.
    """
    from scipy.spatial import cKDTree

    cells_deg = np.stack(
        [np.floor(longitude_deg / _CELL_DEG), np.floor(latitude_deg / _CELL_DEG)]
    )
    _, first, cell = np.unique(cells_deg, axis=1, return_index=True, return_inverse=True)
    cell = cell.ravel()
    chord = 2 * np.sin(REGIONS_APART_M / _EARTH_RADIUS_M / 2)
    tree = cKDTree(_on_unit_sphere(longitude_deg[first], latitude_deg[first]))
    component = connected(len(first), tree.query_pairs(chord, output_type="ndarray"))[cell]
    sizes = np.bincount(component)
    is_group = (sizes >= _FEWEST_IMAGES) | (sizes * 5 > len(component))
    order = np.argsort(-sizes, kind="stable")
    number = np.zeros(len(sizes), np.int64)
    kept = order[is_group[order]]
    number[kept] = np.arange(len(kept))
    return number[component]


def connected(size: int, pairs: NDArray[np.integer]) -> Codes:
    """Return the component ``(size,)`` of each of some things, given pairs that touch."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), bool)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    found: Codes = connected_components(graph, directed=False)[1].astype(np.int64)
    return found


def _on_unit_sphere(longitude_deg: Floats, latitude_deg: Floats) -> Floats:
    longitude, latitude = np.radians(longitude_deg), np.radians(latitude_deg)
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=1,
    )


def near_zones(positions_m: Floats, zone: Codes, zones: Sequence[Zone]) -> Codes:
    """Return components ``(Z,)`` of zones that have images within 5 km of each other.

    Args:
        positions_m: ``(N, 2)``, each in its own zone.
        zone: ``(N,)`` codes into ``zones``.
        zones: ``Z`` zones.
    """
    from scipy.spatial import cKDTree

    near = []
    for first in range(len(zones)):
        for second in range(first + 1, len(zones)):
            target = zones[first]
            converted = change_zone(positions_m[zone == second], zones[second], target)
            converted = converted[np.isfinite(converted).all(axis=1)]
            if len(converted):
                tree = cKDTree(positions_m[zone == first])
                if np.isfinite(
                    tree.query(converted, distance_upper_bound=ONE_PLACE_M)[0]
                ).any():
                    near.append((first, second))
    return connected(len(zones), np.array(near, np.int64).reshape(-1, 2))
