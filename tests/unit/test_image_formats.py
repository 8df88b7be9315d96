"""Which files are images: named formats only, turned upright, the rest counted."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from mlcore.data import ImageWalk, find_images, read_image
from mlcore.errors import DataError
from tests.support.exif_bytes import (
    ASCII,
    BYTE,
    LONG,
    RATIONAL,
    SHORT,
    SRATIONAL,
    UNDEFINED,
    jpeg,
)

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("head", [EPS, b"\xc5\xd0\xd3\xc6" + EPS, b"%PDF-1.4\n"])
def test_what_would_start_another_program_is_not_opened(tmp_path, head, monkeypatch):
    monkeypatch.setattr("subprocess.check_call", pytest.fail)
    path = tmp_path / "a.jpg"
    path.write_bytes(head)
    with pytest.raises(DataError, match=r"not an image of a known format .*skip_unreadable"):
        read_image(path)


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")]
)
def test_what_is_not_a_file_is_not_read(tmp_path, make):
    make(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"not a file.*skip_unreadable"):
        read_image(tmp_path / "a.jpg")


def test_a_name_that_is_not_utf8_is_refused_before_the_work(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(tmp_path / os.fsdecode(b"b\xe4d.jpg"))
    with pytest.raises(UnicodeEncodeError):
        find_images(tmp_path)


@pytest.mark.parametrize(
    "odd",
    [
        (0x11A, ASCII, b"72\0"),
        (0x11A, UNDEFINED, b"72"),
        (0x11A, SRATIONAL, [(-1, 2)]),
        (0x11A, RATIONAL, [(72, 0)]),
        (0x131, RATIONAL, [(13, 1)]),
        (0x128, LONG, [70_000]),
        (0x2BC, ASCII, b"<x:xmpmeta/>\0"),
        (0x100, ASCII, b"64\0"),
        (0x132, BYTE, b"\xff\xfe"),
        (0x9286, UNDEFINED, b"\xff" * 40),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_odd_tag_that_nobody_needs_spoils_no_image(tmp_path, odd, order):
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg([(0x112, SHORT, [6]), odd], order=order))
    assert read_image(path).shape == (3, 64, 48)
    path.write_bytes(jpeg([odd], order=order))
    assert read_image(path).shape == (3, 48, 64)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone(tmp_path, orientation):
    """The corner that EXIF calls row 0, column 0 of the scene ends up at the top left."""
    # EXIF 2.32, 4.6.4: which side of the scene the 0th row and the 0th column of the file are.
    rows = "top top bottom bottom left right right left".split()[orientation - 1]
    columns = "left right right left top top bottom bottom".split()[orientation - 1]
    pixels = np.zeros((48, 64), np.uint8)
    scene = {rows, columns}
    row = 0 if {"top", "left"} >= {rows} else -1
    column = 0 if {"top", "left"} >= {columns} else -1
    assert scene in ({"top", "left"}, {"top", "right"}, {"bottom", "left"}, {"bottom", "right"})
    pixels[slice(0, 8) if row == 0 else slice(-8, None)] += 100
    pixels[:, slice(0, 8) if column == 0 else slice(-8, None)] += 100
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = read_image(tmp_path / "a.png")[0]
    assert image.shape == ((48, 64) if orientation <= 4 else (64, 48))
    assert int(image[0, 0]) == 200
    assert int(image[-1, -1]) == 0


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "webp", "tif", "tiff", "bmp", "gif", "PNG"])
def test_what_pillow_reads_is_found_and_read(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    form = {"jfif": "JPEG", "jpe": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())
    Image.new("RGB", (8, 6), (255, 255, 255)).save(path, form)
    assert len(find_images(tmp_path)) == 1
    assert int(read_image(path).min()) == 255


def test_heic_is_read_with_the_extra(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    Image.new("RGB", (64, 48), (200, 30, 30)).save(tmp_path / "a.HEIC", "HEIF")
    assert len(find_images(tmp_path)) == 1
    assert read_image(tmp_path / "a.HEIC").shape == (3, 48, 64)


def test_what_is_left_out_is_counted_and_named(tmp_path):
    for name in ("a.jpg", "b.cr2", "c.NEF", "d.nef", ".thumbnails/a.jpg", "@eaDir/a.jpg/b.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "._a.jpg").write_bytes(b"")
    walk = ImageWalk(tmp_path)
    assert [(str(folder), names) for folder, names in walk.folders] == [(".", ["a.jpg"])]
    assert walk.notes == (
        "1 .cr2 files cannot be read and are left out; convert them first",
        "2 .nef files cannot be read and are left out; convert them first",
        "3 hidden or system files and folders are left out: .thumbnails, @eaDir, ._a.jpg",
    )
    assert find_images(tmp_path).notes == walk.notes
