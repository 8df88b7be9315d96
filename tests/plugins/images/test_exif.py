"""EXIF positions as cameras and programs write them: right, or left out and named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore_images.readers.exif import NO_GPS, read_gps, read_position
from tests.support.exif_bytes import (
    ASCII,
    BYTE,
    DOUBLE,
    RATIONAL,
    SRATIONAL,
    UNDEFINED,
    gps,
    jpeg,
)
from tests.support.image_folders import build

SYDNEY = (RATIONAL, [(33, 1), (51, 1), (24, 1)]), (RATIONAL, [(151, 1), (12, 1), (0, 1)])
DEGREES = -(33 + 51 / 60 + 24 / 3600)


def position(tmp_path, entries, order="<"):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(gps=entries, order=order))
    return read_position(path)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    letter=st.sampled_from(["N", "n", "S", "s", "North", "South", "south"]),
    kind=st.sampled_from([ASCII, BYTE, UNDEFINED]),
    before=st.sampled_from([b"", b"\0", b" ", b" \0"]),
    after=st.sampled_from([b"", b"\0", b"\0\0", b" ", b"  \0"]),
    order=st.sampled_from("<>"),
)
def test_the_hemisphere_however_it_is_written(tmp_path, letter, kind, before, after, order):
    reference = (kind, before + letter.encode() + after)
    found = position(tmp_path, gps(*SYDNEY, latitude_ref=reference), order)
    sign = -1 if letter[0] in "sS" else 1
    assert found["latitude"] == pytest.approx(sign * abs(DEGREES), abs=1e-9)
    assert found["longitude"] == pytest.approx(151.2, abs=1e-9)


@pytest.mark.parametrize("reference", [None, (ASCII, b"?\0"), (BYTE, b"\0"), (ASCII, b"E\0")])
def test_a_missing_or_unknown_hemisphere_is_no_position(tmp_path, reference):
    found = position(tmp_path, gps(*SYDNEY, latitude_ref=reference))
    assert found == "images have no N or S beside their EXIF position and are left out"


@pytest.mark.parametrize(
    ("parts", "letter", "degrees"),
    [
        ([(-33, 1), (51, 1), (24, 1)], b"S", DEGREES),
        ([(-33, 1), (-51, 1), (-24, 1)], b"S", DEGREES),
        ([(0, 1), (-30, 1), (0, 1)], b"S", -0.5),
        ([(33, 1), (51, 1), (24, 1)], b"N", -DEGREES),
        ([(33, 1), (51, 1), (0, 0)], b"S", -(33 + 51 / 60)),
        ([(-3_385_000, 100_000)], b"S", -33.85),
        ([(33, 1), (5140, 100)], b"S", -(33 + 51.4 / 60)),
        ([(33, 1), (51, 1), (60, 1)], b"S", -(33 + 52 / 60)),
    ],
)
def test_signed_and_partial_degrees(tmp_path, parts, letter, degrees):
    found = position(tmp_path, gps((SRATIONAL, parts), SYDNEY[1], (ASCII, letter + b"\0")))
    assert found["latitude"] == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(
    ("latitude", "letter", "reason"),
    [
        ((SRATIONAL, [(-33, 1), (51, 1), (24, 1)]), b"N", "negative EXIF position marked N"),
        ((SRATIONAL, [(0, 1), (-51, 1), (24, 1)]), b"N", "negative EXIF position marked N"),
        ((RATIONAL, [(0, 0), (51, 1), (24, 1)]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(33, 1), (0, 0), (24, 1)]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(33, 1), (51, 1), (24, 0)]), b"S", "not degrees, minutes and seconds"),
        ((DOUBLE, [float("nan"), 0.0, 0.0]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(33, 1), (61, 1), (24, 1)]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(33, 1), (51, 1), (3599, 1)]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(2**32 - 1, 1)] * 3), b"N", "not degrees, minutes and seconds"),
        ((SRATIONAL, [(33, 1), (-51, 1), (24, 1)]), b"S", "not degrees, minutes and seconds"),
        ((RATIONAL, [(933, 1), (51, 1), (24, 1)]), b"S", "out of range"),
    ],
)
def test_what_contradicts_itself_is_no_position(tmp_path, latitude, letter, reason):
    assert reason in position(tmp_path, gps(latitude, SYDNEY[1], (ASCII, letter + b"\0")))


@pytest.mark.parametrize("status", [(ASCII, b"V\0"), (BYTE, b"V"), (ASCII, b"v \0")])
def test_a_position_without_a_fix_is_no_position(tmp_path, status):
    found = position(tmp_path, [*gps(*SYDNEY), (9, *status)])
    assert "marked void" in found
    fixed = position(tmp_path, [*gps(*SYDNEY), (9, ASCII, b"A\0")])
    assert fixed["longitude"] == pytest.approx(151.2)


@pytest.mark.parametrize("date", [b"    :  :     :  :  \0", b"0000:00:00 00:00:00\0", b" \0"])
def test_an_unknown_date_is_no_timestamp(tmp_path, date):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(gps=gps(*SYDNEY), taken=date))
    assert "timestamp" not in read_position(path)
    path.write_bytes(jpeg(gps=gps(*SYDNEY), taken=b"2024:05:31 10:20:30\0"))
    assert read_position(path)["timestamp"] == "2024:05:31 10:20:30"


def test_null_island_and_images_without_gps_are_left_out_and_counted(tmp_path):
    for number in range(4):
        longitude = (RATIONAL, [(151, 1), (12, 1), (number, 1)])
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(gps=gps(SYDNEY[0], longitude)))
    zero = (RATIONAL, [(0, 1), (0, 1), (0, 1)])
    for number in range(4, 9):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(gps=gps(zero, zero)))
    (tmp_path / "9.jpg").write_bytes(jpeg())
    data = build(tmp_path, train="*")
    assert len(data.train.references) == 4
    steps_m = np.linalg.norm(np.diff(data.train.references.positions_m, axis=0), axis=1)
    # One second of longitude: 30.9 m at the equator, times cos(33.9 degrees).
    np.testing.assert_allclose(steps_m, 25.7, atol=0.1)
    left_out = {f.message: (f.count, f.examples[0]) for f in data.findings if f.examples}
    assert left_out == {
        "images are at latitude 0, longitude 0: no GPS fix, left out": (5, "4.jpg"),
        NO_GPS: (1, "9.jpg"),
    }


def test_a_file_that_is_not_an_image_has_no_gps(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    assert read_gps(tmp_path / "a.jpg") is None
