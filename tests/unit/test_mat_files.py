"""MATLAB files read within bounds: as scipy reads them, and no byte beyond."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.io import loadmat

from mlcore.data.mat_files import fields_of, numbers_of, read_mat, texts_of
from mlcore.errors import DataError
from tests.support.mat_bytes import element, header, matrix, saved, text
from tests.support.pittsburgh_tree import cells


def test_numbers_and_texts_agree_with_scipy(tmp_path):
    wanted = {
        "doubles": np.arange(6.0).reshape(2, 3),
        "bytes": np.arange(6, dtype=np.uint8).reshape(3, 2),
        "longs": np.array([[-(2**40), 2**40]]),
        "singles": np.float32([[0.5], [-1.25]]),
        "cube": np.arange(24.0).reshape(2, 3, 4),
        "nothing": np.zeros((2, 0)),
    }
    path = saved(tmp_path, **wanted, padded=np.array(["ab", "cde"]), cells=cells(["é", "x y"]))
    found, theirs = read_mat(path), loadmat(path)
    for name in wanted:
        np.testing.assert_array_equal(numbers_of(found[name]), theirs[name])
    assert texts_of(found["padded"]) == ["ab", "cde"]
    assert texts_of(found["cells"]) == [str(cell[0]) for cell in theirs["cells"][:, 0]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_matlabs_own_utf_16_in_either_byte_order(tmp_path, order):
    names = ["000/000000_pitch1_yaw1.jpg", "000/é.jpg"]
    body = b"".join(text(name, order) for name in names)
    path = tmp_path / "a.mat"
    path.write_bytes(header(order) + matrix(1, (2, 1), body, b"dbImageFns", order))
    assert texts_of(read_mat(path)["dbImageFns"]) == names
    if order == "<":
        assert [str(cell[0]) for cell in loadmat(path)["dbImageFns"][:, 0]] == names


def test_what_inflates_to_more_than_it_declares_is_cut_there(tmp_path):
    path = tmp_path / "a.mat"
    body = matrix(6, (1, 1), element(9, bytes(8)), b"a")
    bomb = zlib.compress(body + bytes(10_000_000))
    path.write_bytes(header() + struct.pack("<II", 15, len(bomb)) + bomb)
    assert numbers_of(read_mat(path)["a"]) == 0.0


@pytest.mark.parametrize("num", [2**31 - 1, 1000])
def test_cells_that_are_declared_and_not_there(tmp_path, num):
    path = tmp_path / "a.mat"
    path.write_bytes(header() + matrix(1, (num, 1), text("a"), b"dbImageFns"))
    with pytest.raises(DataError, match=f"{num} entries are declared"):
        texts_of(read_mat(path)["dbImageFns"])


@pytest.mark.parametrize("num_dimensions", [33, 65, 4_000_000])
def test_an_array_of_too_many_dimensions_is_refused_at_once(tmp_path, num_dimensions):
    path = tmp_path / "a.mat"
    path.write_bytes(header() + matrix(6, (1,) * num_dimensions, element(9, bytes(8)), b"a"))
    with pytest.raises(DataError, match=f"declares {num_dimensions:,} dimensions"):
        read_mat(path)


def test_a_struct_of_ten_million_fields_is_refused_before_they_are_listed(tmp_path):
    path = tmp_path / "a.mat"
    names = element(5, struct.pack("<i", 1)) + element(1, bytes(10_000_000))
    path.write_bytes(header() + matrix(2, (1, 1), names, b"dbStruct"))
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"declares 10,000,000 fields; a spec has at most 1,000"
    ):
        fields_of(read_mat(path)["dbStruct"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * path.stat().st_size  # the bytes themselves, and no name


def test_more_names_or_variables_than_any_spec_has_are_refused(tmp_path):
    path = tmp_path / "a.mat"
    path.write_bytes(header() + matrix(1, (600_000, 1), text("a") * 600_000, b"dbImageFns"))
    with pytest.raises(DataError, match="600,000 entries are declared; a spec has at most"):
        texts_of(read_mat(path)["dbImageFns"])
    variables = b"".join(matrix(6, (0, 0), name=b"v%d" % number) for number in range(1001))
    path.write_bytes(header() + variables)
    with pytest.raises(DataError, match="more than 1,000 variables"):
        read_mat(path)
