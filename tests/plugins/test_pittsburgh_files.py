"""Spec files as they come, and as they should not come: never another error than DataError."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.data.mat_files import fields_of, read_mat
from mlcore.data.spec_bytes import MAX_BYTES
from mlcore.errors import DataError
from mlcore_pittsburgh.npz_file import read_npz
from mlcore_pittsburgh.specs import read_spec
from tests.support.mat_bytes import element, header, matrix, saved
from tests.support.pittsburgh_tree import FORMS, cells, content, write_spec
from tests.support.pittsburgh_tree import struct as db_struct


def error_of(path):
    with pytest.raises(DataError) as caught:
        read_spec(path)
    return str(caught.value)


@pytest.fixture(scope="module")
def spec_bytes(tmp_path_factory):
    """A whole spec of every form that is one file, with and without compression."""
    folder = tmp_path_factory.mktemp("specs")
    whole = {}
    for form in ("struct", "top-level", "npz"):
        for compress in (True, False):
            path = write_spec(folder, "a", form, content(0), compress)
            whole[form, compress] = (path.suffix, path.read_bytes())
    return whole


@pytest.mark.parametrize("form", FORMS)
def test_a_spec_says_what_was_written(tmp_path, form):
    names, positions, queries, query_positions = content(1)
    spec = read_spec(write_spec(tmp_path, "pitts30k_val", form, content(1)))
    assert list(spec.references.names) == names
    assert list(spec.queries.names) == queries
    np.testing.assert_array_equal(spec.references.positions_m, positions)
    np.testing.assert_array_equal(spec.queries.positions_m, query_positions)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "it is empty"),
        (b"\n <!DOCTYPE html><html>", "a web page"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", "save -v7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "v7.3"),
        (b"PK\x03\x04" + bytes(200), "name it so"),
        (b"\x1f\x8b" + bytes(200), "gzip"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"MATLAB 5.0 MAT-file", "truncated"),
        (b"\x00" * 300, "it starts with"),
    ],
)
def test_a_foreign_file_is_named_for_what_it_is(tmp_path, start, words):
    path = tmp_path / "pitts30k_test.mat"
    path.write_bytes(start)
    message = error_of(path)
    assert str(path) in message
    assert words in message


def test_a_foreign_npz_and_a_truncated_one(tmp_path, spec_bytes):
    path = tmp_path / "a.npz"
    path.write_text("<html>")
    assert "a web page" in error_of(path)
    path.write_bytes(spec_bytes["npz", True][1][:-50])
    assert "truncated" in error_of(path)


@pytest.mark.parametrize("field", ["dbImageFns", "utmDb", "qImageFns", "utmQ"])
@pytest.mark.parametrize("wrap", [True, False])
def test_a_missing_field_is_named(tmp_path, field, wrap):
    fields = db_struct(*content(0))
    del fields[field]
    path = saved(tmp_path, **({"dbStruct": fields} if wrap else fields))
    assert f"has no {field}" in error_of(path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("dbImageFns", np.zeros((3, 1)), "dbImageFns is numbers but must be a cell array"),
        ("utmDb", cells(["a"]), "utmDb is a cell array but must be an array of real numbers"),
        ("utmQ", np.full((2, 9), 1j), "utmQ is complex numbers but must be an array of real"),
        ("qImageFns", cells([np.zeros(2)] * 9), "qImageFns{1} is numbers but must be one line"),
        ("dbImageFns", np.zeros((0, 0)), "utmDb is 2 x 18 but must be 2 x 0"),
    ],
)
def test_a_field_of_another_kind_is_named(tmp_path, field, value, words):
    path = saved(tmp_path, dbStruct={**db_struct(*content(0)), field: value})
    message = error_of(path)
    assert words in message
    assert str(path) in message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (3, "an object"),
        (5, "a sparse array"),
        (16, "a function"),
        (17, "an opaque object (such as a string array)"),
    ],
)
def test_what_could_hold_code_is_refused(tmp_path, kind, words):
    flags = element(6, struct.pack("<II", kind, 0))
    dimensions = b"" if kind == 17 else element(5, struct.pack("<2i", 1, 1))
    body = flags + dimensions + element(1, b"dbImageFns") + element(1, b"MCOS")
    path = tmp_path / "a.mat"
    others = matrix(6, (2, 0), element(9, b""), b"utmDb")
    path.write_bytes(header() + element(14, body) + others)
    assert f"is {words} but must be a cell array of text" in error_of(path)


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, dbImageFns=np.array(["a", None], dtype=object), utmDb=np.zeros((2, 2)))
    message = error_of(path)
    assert "dbImageFns.npy holds pickled objects, which are not read" in message


def test_a_bomb_is_refused_by_what_it_declares(tmp_path):
    path = tmp_path / "a.mat"
    bomb = zlib.compress(struct.pack("<II", 14, MAX_BYTES + 1) + bytes(1000))
    path.write_bytes(header() + struct.pack("<II", 15, len(bomb)) + bomb)
    assert f"declares {MAX_BYTES + 1:,} bytes" in error_of(path)


def test_an_npz_bomb_is_refused_by_what_it_declares(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2):
            archive.writestr(f"{number}.npy", bytes(MAX_BYTES // 2 + 1))
    assert f"more than {MAX_BYTES:,}" in error_of(path)


@pytest.mark.parametrize("shape", [(10**9, 2), (10**18, 10**9), (-1, 2)])
def test_an_array_that_declares_more_than_is_there(tmp_path, shape):
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        content, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("utmDb.npy", content.getvalue() + bytes(16))
    with pytest.raises(DataError, match=r"utmDb\.npy: 16 bytes are not the declared"):
        read_npz(path)


def test_structs_within_structs_are_not_walked(tmp_path):
    """Depth costs nothing: only what is asked for is read."""
    inner = matrix(6, (1, 1), element(9, bytes(8)))
    for _ in range(2000):
        names = element(5, struct.pack("<i", 2)) + element(1, b"a\0")
        inner = matrix(2, (1, 1), names + inner)
    outer = element(5, struct.pack("<i", 2)) + element(1, b"a\0") + inner
    path = tmp_path / "a.mat"
    path.write_bytes(header() + matrix(2, (1, 1), outer, b"dbStruct"))
    assert list(fields_of(read_mat(path)["dbStruct"])) == ["a"]
    assert "has no dbImageFns" in error_of(path)


def test_lists_beside_an_npz_must_have_a_line_for_each_position(tmp_path):
    path = write_spec(tmp_path, "pitts30k_test", "npz-lists", content(0))
    names = tmp_path / "pitts30k_test_imageNames_index.txt"
    names.write_text("000/000000_pitch1_yaw1.jpg\n")
    assert "18 positions and no dbImageFns" in error_of(path)
    assert "imageNames_index.txt with 1" in error_of(path)
    names.write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in error_of(path)
    names.unlink()
    assert "found: none" in error_of(path)


def test_a_list_without_its_split_in_its_name_is_found(tmp_path):
    path = write_spec(tmp_path, "pitts30k_test", "npz-lists", content(0))
    for file in tmp_path.glob("*.txt"):
        file.rename(tmp_path / file.name.replace("_test_", "_"))
    assert len(read_spec(path).queries) == 9


MUTATED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def assert_read_or_refused(path):
    """A spec is refused with a DataError, or it is consistent."""
    try:
        spec = read_spec(path)
    except DataError as error:
        if str(path) not in str(error):
            raise
        return
    for images in (spec.references, spec.queries):
        assert images.positions_m.shape == (len(images.names), 2)
        assert np.isfinite(images.positions_m).all()
        assert all(name and not name.startswith("/") for name in images.names)


FILES = st.sampled_from([(f, c) for f in ("struct", "top-level", "npz") for c in (True, False)])


@MUTATED
@given(which=FILES, data=st.data())
def test_damaged_bytes(tmp_path, spec_bytes, which, data):
    suffix, whole = spec_bytes[which]
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=6)):
        damaged[at] = data.draw(st.sampled_from([0, 1, 2, 14, 15, 127, 128, 255]))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(damaged)
    assert_read_or_refused(path)


@MUTATED
@given(which=FILES, data=st.data())
def test_truncated_and_joined_files(tmp_path, spec_bytes, which, data):
    suffix, whole = spec_bytes[which]
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(whole))] * 2)))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data.draw(st.sampled_from([whole[:stop], whole[:start] + whole[stop:]])))
    assert_read_or_refused(path)


@settings(MUTATED, max_examples=100)
@given(body=st.binary(max_size=200), suffix=st.sampled_from([".mat", ".npz"]))
def test_any_bytes_behind_a_right_start(tmp_path, body, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes((header() if suffix == ".mat" else b"PK\x03\x04") + body)
    assert_read_or_refused(path)
