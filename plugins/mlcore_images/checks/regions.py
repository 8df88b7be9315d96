"""Which images share a frame of positions: regions by column, UTM zone or distance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.data import Zone, change_zone, groups_of, near_zones, project, turn_deg
from mlcore.factories import Finding
from mlcore_images.readers.listing import Listing, shown

AUTO, NONE = "auto", "none"

_WIDEST_ZONE_DEG = 6.0
"""Beyond this distance from the zone's middle, UTM metres are 0.5 % too long."""
_FARTHEST_ZONE_DEG = 30.0
"""Beyond this distance an image cannot belong to the others: 3,300 km at the equator."""
_ZONE = re.compile(r"0*([1-9]|[1-5][0-9]|60)([C-HJ-NP-X]?)", re.IGNORECASE)

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Located:
    """Where images are.

    Attributes:
        positions_m: ``(N, 2)``, easting and northing, in one frame per region.
        region: ``(N,)`` codes into ``regions``; None for one region.
        regions: Their names; none for one region.
        findings: What was found.
        coordinates_deg: ``(N, 2)``, latitude and longitude that positions are projected from;
            None for positions in metres.
    """

    positions_m: Floats
    region: Codes | None
    regions: tuple[str, ...]
    findings: tuple[Finding, ...]
    coordinates_deg: Floats | None = None

    def also(self, *findings: Finding) -> Located:
        """Return the same with more findings."""
        return replace(self, findings=(*self.findings, *findings))


@dataclass(frozen=True)
class _Labels:
    """A name for each image.

    Attributes:
        codes: ``(N,)`` codes into ``names``.
        names: Each of them occurs.
    """

    codes: Codes
    names: tuple[str, ...]

    @classmethod
    def one(cls, size: int) -> _Labels:
        return cls(np.zeros(size, np.int64), ("",))

    def sizes(self) -> list[str]:
        counts = np.bincount(self.codes, minlength=len(self.names)).tolist()
        return [
            f"{name} ({count} images)" for name, count in zip(self.names, counts, strict=True)
        ]


def locate_metres(listing: Listing, positions_m: Floats, option: str) -> Located:
    """Return positions in metres with their regions.

    Those of a column, or else the UTM zones of the file names; zones with images within 5 km
    of each other are one region. Inside a region all positions are in the zone of most images.

    Raises:
        DataError: The option names no column, or an image has no region or no zone.
    """
    labels = _of_column(listing, option)
    zone, zones = _zones(listing) if option != NONE else (np.empty(0, np.int64), ())
    if len(zones) < 2:
        return _located(positions_m, labels or _Labels.one(len(listing)), ())
    by_zone = labels is None
    if labels is None:
        component = near_zones(positions_m, zone, zones)
        labels = _Labels(component[zone], ("",) * (int(component.max()) + 1))
    positions_m, names, findings = positions_m.copy(), [], []
    for code, name in enumerate(labels.names):
        mine = labels.codes == code
        counts = np.bincount(zone[mine], minlength=len(zones))
        target = int(counts.argmax())
        others = np.flatnonzero((counts > 0) & (np.arange(len(zones)) != target)).tolist()
        for other in others:
            rows = mine & (zone == other)
            positions_m[rows] = change_zone(positions_m[rows], zones[other], zones[target])
        if others:
            found = ", ".join(str(zones[other]) for other in sorted([target, *others]))
            message = (
                f"images in UTM zones {found} share a region: all are converted to zone "
                f"{zones[target]}, which has most of them"
            )
            findings.append(Finding("info", message, int(mine.sum())))
        names.append(str(zones[target]) if by_zone else name)
    return _located(positions_m, _Labels(labels.codes, tuple(names)), tuple(findings))


def locate_degrees(
    listing: Listing, longitude_deg: Floats, latitude_deg: Floats, option: str
) -> Located:
    """Return latitude and longitude in metres, each region in one UTM zone.

    Regions are those of a column, or else the groups of images more than 100 km apart.

    Raises:
        DataError: The option names no column, an image has no region, or a row is too far from
            the others of its region to be projected with them.
        ConfigError: pyproj is not installed.
    """
    labels, findings = _of_column(listing, option), []
    if labels is None and option == AUTO:
        codes = groups_of(longitude_deg, latitude_deg)
        labels = _Labels(codes, tuple(str(k + 1) for k in range(int(codes.max()) + 1)))
        if len(labels.names) > 1:
            message = (
                f"latitude and longitude form {len(labels.names)} groups more than 100 km "
                "apart, which are taken for regions; add a column region to name them"
            )
            findings.append(Finding("info", message))
    labels = labels or _Labels.one(len(listing))
    positions_m = np.empty((len(listing), 2))
    used = []
    for code in range(len(labels.names)):
        mine = labels.codes == code
        zone = Zone.of(longitude_deg[mine], latitude_deg[mine])
        positions_m[mine] = project(longitude_deg[mine], latitude_deg[mine], zone)
        offset_deg = np.abs(turn_deg(longitude_deg - zone.meridian_deg)) * mine
        unprojected = ~np.isfinite(positions_m).all(axis=1) & mine
        listing.refuse(
            unprojected | (offset_deg > _FARTHEST_ZONE_DEG),
            "longitude",
            f"is too far from UTM zone {zone.number} of most images to be projected to it",
            "correct the row, or name the region of each image in a column region",
        )
        if (offset_deg > _WIDEST_ZONE_DEG).any():
            message = (
                f"images lie up to {offset_deg.max():.1f} degrees from the central meridian of "
                f"UTM zone {zone}, where its metres are too long; name the region of each "
                "image in a column region"
            )
            findings.append(
                Finding("warning", message, int((offset_deg > _WIDEST_ZONE_DEG).sum()))
            )
        used.append(f"{labels.names[code]}: {zone}" if len(labels.names) > 1 else str(zone))
    note = f"latitude and longitude are projected to UTM zone {', '.join(used)}"
    found = _located(positions_m, labels, (Finding("info", note), *findings))
    return replace(found, coordinates_deg=np.stack([latitude_deg, longitude_deg], axis=1))


def _located(positions_m: Floats, labels: _Labels, findings: Sequence[Finding]) -> Located:
    if len(labels.names) < 2:
        return Located(positions_m, None, (), tuple(findings))
    message = (
        f"{len(labels.names)} regions, infinitely far from each other: {shown(labels.sizes())}"
    )
    found = (Finding("info", message), *findings)
    return Located(positions_m, labels.codes, labels.names, found)


def _of_column(listing: Listing, option: str) -> _Labels | None:
    """Return the regions that a column names; None if there is no such column.

    Raises:
        DataError: An image has none, or the option names a column that does not exist.
    """
    if option == NONE or (option == AUTO and "region" not in listing):
        return None
    column = "region" if option == AUTO else option
    texts, codes = _texts(listing, column)
    empty = np.array([not text.strip() for text in texts] + [True])[codes]
    remedy = "name the region of every image, or set dataset.region to none"
    listing.refuse(empty, column, "is empty, so that the image has no region", remedy)
    names, of_text = np.unique([text.strip() for text in texts], return_inverse=True)
    used, region = np.unique(of_text[codes], return_inverse=True)
    return _Labels(region.astype(np.int64), tuple(names[used].tolist()))


def _texts(listing: Listing, column: str) -> tuple[list[str], Codes]:
    """Return the distinct values of a column, and codes ``(N,)``; -1 for no value."""
    encoded = listing.encoded(column)
    texts = [text or "" for text in encoded.dictionary.cast(pa.string()).to_pylist()]
    codes: Codes = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return texts, codes


def _zones(listing: Listing) -> tuple[Codes, tuple[Zone, ...]]:
    """Return the UTM zone of each image, ``(N,)`` codes into zones; none where names have none.

    Bands C to M are the southern hemisphere, N to X the northern one. A number without a band
    is in the hemisphere of the others of that number, or else the northern one.

    Raises:
        DataError: There are several zones, and an image without one.
    """
    if "zone" not in listing:
        return np.zeros(len(listing), np.int64), ()
    texts, codes = _texts(listing, "zone")
    parsed = [_ZONE.fullmatch(text.strip()) for text in texts]
    south = {int(m[1]) for m in parsed if m and m[2].upper() in tuple("CDEFGHJKLM")}
    north = {int(m[1]) for m in parsed if m and m[2].upper() in tuple("NPQRSTUVWX")}
    of_text = [
        Zone(
            int(m[1]),
            is_south=m[2].upper() < "N" if m[2] else int(m[1]) in south - north,
        )
        if m
        else None
        for m in parsed
    ]
    zones = sorted({zone for zone in of_text if zone is not None})
    number = np.array([-1 if z is None else zones.index(z) for z in of_text] + [-1], np.int64)
    zone = number[codes]
    if len(zones) > 1:
        problem = f"is no UTM zone, while others are in {shown(list(map(str, zones)))}"
        remedy = "write the zone into every name, or set dataset.region to none"
        listing.refuse(zone < 0, "zone", problem, remedy)
    return zone, tuple(zones)
