"""Metres that a table cannot mean: degrees, swapped axes and two conventions in half of it."""

from __future__ import annotations

import numpy as np
import pytest

from mlcore.errors import DataError
from mlcore_images.checks.positions import read_positions
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.layouts import find_listing


def positions_of(folder, rows):
    path = folder / "positions.csv"
    path.write_text("\n".join(["path,easting_m,northing_m", *rows]) + "\n")
    listing = find_listing(ImagesConfig(root=folder, table=path))
    return read_positions(listing, ImagesConfig()).positions_m


def fault_of(folder, rows):
    with pytest.raises(DataError) as caught:
        positions_of(folder, rows)
    return str(caught.value)


def test_degrees_along_a_parallel_are_refused(tmp_path):
    rows = [f"{i}.jpg,{14.42 + i * 1.37e-5},50.1" for i in range(50)]
    assert "'easting_m' is 14.42 to 14.42067, which looks like degrees" in fault_of(
        tmp_path, rows
    )
    # A local route of 60 m along a wall 5 m away has a constant column too.
    local = [f"{i}.jpg,{100.1234 + i},5" for i in range(60)]
    positions_m = positions_of(tmp_path, local)
    assert len(positions_m) == 60


@pytest.mark.parametrize("num_right", [1, 6, 11])
def test_axes_that_some_rows_have_swapped_are_refused(tmp_path, num_right):
    rows = [f"{i}.jpg,{620000 + i},5735000" for i in range(num_right)]
    rows += [f"{i}.jpg,5735010,{620000 + i}" for i in range(num_right, 12)]
    message = fault_of(tmp_path, rows)
    assert "are swapped" in message
    if num_right > 1:
        assert f"line {num_right + 2}: easting_m 5735010" in message


@pytest.mark.parametrize("num_south", [1, 6, 11])
def test_two_conventions_of_the_southern_hemisphere_are_refused(tmp_path, num_south):
    rows = [f"{i}.jpg,{334000 + i},-3749990" for i in range(num_south)]
    rows += [f"{i}.jpg,{334000 + i},6250000" for i in range(num_south, 12)]
    message = fault_of(tmp_path, rows)
    assert "line 2: northing_m -3749990" in message
    assert "add 10000000" in message
    one_convention = [row.replace("-3749990", "6250010") for row in rows]
    positions_m = positions_of(tmp_path, one_convention)
    np.testing.assert_array_equal(np.unique(positions_m[:, 1]), [6250000, 6250010])
