"""RobotCar's images: tars by offset, demosaic and undistortion against float64 references."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import convolve, map_coordinates

from mlcore.errors import DataError
from mlcore_robotcar.download.frames import list_frames
from mlcore_robotcar.download.tars import index_tar, read_member, scan_tar
from mlcore_robotcar.download.tree import find_traversals
from mlcore_robotcar.prepare.decode import (
    TABLES,
    decode_png,
    demosaic,
    develop,
    encode,
    fit,
    read_lookup,
    undistort,
)
from tests.support.robotcar_tree import PAPER, frame, png, stamps_of, write_tar, write_tree

DATE = PAPER[0]
PATTERNS = {"stereo/centre": "GBRG", "stereo/left": "GBRG", "mono_left": "RGGB"}


def mosaic(image, pattern):
    """Keep of each pixel of an RGB image the colour that the pattern has there."""
    raw = np.zeros(image.shape[:2], image.dtype)
    for at, colour in enumerate(pattern):
        rows, columns = slice(at // 2, None, 2), slice(at % 2, None, 2)
        raw[rows, columns] = image[rows, columns, "RGB".index(colour)]
    return raw


def demosaic_float64(raw, pattern):
    """Bilinear: the mean of the nearest pixels of a colour, mirrored beyond the border."""
    planes = []
    cross = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
    square = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
    for colour in "RGB":
        plane = np.zeros(raw.shape)
        for at, there in enumerate(pattern):
            if there == colour:
                rows, columns = slice(at // 2, None, 2), slice(at % 2, None, 2)
                plane[rows, columns] = raw[rows, columns]
        planes.append(convolve(plane, cross if colour == "G" else square, mode="mirror"))
    return np.stack(planes, axis=-1)


@pytest.mark.parametrize(("camera", "pattern"), PATTERNS.items())
def test_demosaic_is_within_a_grey_level_everywhere(camera, pattern):
    raw = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    error = np.abs(demosaic(raw, camera).astype(float) - demosaic_float64(raw, pattern))
    assert error.max() <= 0.5


@pytest.mark.parametrize(("camera", "pattern"), PATTERNS.items())
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50)])
def test_red_is_red(camera, pattern, colour):
    image = np.broadcast_to(np.array(colour, np.uint8), (16, 16, 3))
    assert (demosaic(mosaic(image, pattern), camera) == colour).all()


def test_red_stays_red_in_the_file():
    red = np.full((8, 8, 3), (250, 10, 20), np.uint8)
    for image_format in ("png", "jpeg"):
        data = encode(red, image_format, 95)
        from PIL import Image

        back = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
        assert np.abs(back - (250, 10, 20)).max() <= (0 if image_format == "png" else 3)


def barrel(height, width, strength=0.15):
    """Where each undistorted pixel is in a barrel-distorted image."""
    rows, columns = np.mgrid[0:height, 0:width].astype(float)
    x, y = (columns - width / 2) / width, (rows - height / 2) / width
    scale = 1 - strength * (x**2 + y**2)
    return np.stack([width / 2 + width * x * scale, height / 2 + width * y * scale])


def test_undistortion_is_within_a_grey_level(tmp_path):
    table = barrel(96, 128)
    assert table[0].max() < 127
    assert table[1].max() < 95
    path = tmp_path / TABLES["stereo/centre"]
    path.write_bytes(table.reshape(2, -1).astype("<f8").tobytes())
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    lookup = read_lookup(tmp_path, "stereo/centre", 96, 128)
    expected = np.stack(
        [map_coordinates(image[..., c].astype(float), table[::-1], order=1) for c in range(3)],
        axis=-1,
    )
    assert np.abs(undistort(image, lookup) - expected).max() <= 1.0


def test_a_table_of_another_camera_is_refused(tmp_path):
    path = tmp_path / "lut.bin"
    path.write_bytes(barrel(16, 16).tobytes())
    with pytest.raises(DataError, match=r"4,096 bytes.*needs 24,576"):
        read_lookup(path, "stereo/centre", 32, 48)
    path.write_bytes(np.full((2, 16, 16), np.nan).tobytes())
    with pytest.raises(DataError, match="no pixel positions"):
        read_lookup(path, "stereo/centre", 16, 16)
    with pytest.raises(DataError, match="stereo_narrow_left"):
        read_lookup(tmp_path, "stereo/centre", 16, 16)


def test_images_are_scaled_down_by_area_and_never_up():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    small = fit(image, 16)
    expected = image.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - expected).max() <= 0.5
    assert fit(image, 100) is image
    assert develop(frame(0), "stereo/centre", None, 16).shape == (12, 16, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        png(frame(0))[:60],
        png(frame(0))[:33] + b"\x7f\xff\xff\xf0tEXt" + png(frame(0))[33:],
        png(frame(0))[:16] + (10**6).to_bytes(4, "big") + png(frame(0))[20:],
        png(frame(0).astype(np.uint16) * 256),
    ],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(DataError, match=r"somewhere\.png"):
        decode_png(data, "somewhere.png")


def test_a_tar_is_read_by_seeking(tmp_path):
    stamps = stamps_of(5)
    path = write_tar(tmp_path / f"{DATE}_stereo_centre_01.tar", DATE, stamps[::-1])
    index = scan_tar(path, "stereo/centre")
    assert index.timestamps.tolist() == stamps.tolist()
    assert not index.truncated
    for at in range(5):
        data = read_member(path, int(index.offsets[at]), int(index.sizes[at]))
        np.testing.assert_array_equal(decode_png(data, ""), frame(4 - at))
    assert scan_tar(path, "mono_left").num_others == 5


def test_a_tar_is_scanned_once_until_it_changes(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", DATE, stamps_of(3))
    first = index_tar(path, "stereo/centre", tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr("mlcore_robotcar.download.tars.scan_tar", None)
        again = index_tar(path, "stereo/centre", tmp_path / "cache")
    for one, two in ((first.offsets, again.offsets), (first.sizes, again.sizes)):
        np.testing.assert_array_equal(one, two)
    write_tar(path, DATE, stamps_of(4))
    assert len(index_tar(path, "stereo/centre", tmp_path / "cache").timestamps) == 4
    for kept in (tmp_path / "cache/robotcar-tars").iterdir():
        kept.write_bytes(b"damaged")
    assert len(index_tar(path, "stereo/centre", tmp_path / "cache").timestamps) == 4


@pytest.mark.parametrize("lost", [1024 + 8000, 1300, 10_000 - 512])
def test_a_truncated_tar_yields_whole_images_and_says_so(tmp_path, lost):
    path = write_tar(tmp_path / "a.tar", DATE, stamps_of(5))
    data = path.read_bytes().rstrip(b"\0")
    whole = scan_tar(path, "stereo/centre")
    cut = int(whole.offsets[-1] + whole.sizes[-1]) - lost % 400 - 1
    path.write_bytes(data[:cut])
    index = scan_tar(path, "stereo/centre")
    assert index.truncated
    assert index.timestamps.tolist() == whole.timestamps[:4].tolist()


def test_a_tar_cut_between_members_is_truncated(tmp_path):
    path = write_tar(tmp_path / "a.tar", DATE, stamps_of(5))
    index = scan_tar(path, "stereo/centre")
    end = int(index.offsets[3]) - 512
    path.write_bytes(path.read_bytes()[:end])
    index = scan_tar(path, "stereo/centre")
    assert (len(index.timestamps), bool(index.truncated)) == (3, True)


def test_a_damaged_header_is_no_end(tmp_path):
    path = write_tar(tmp_path / "a.tar", DATE, stamps_of(5))
    data = bytearray(path.read_bytes())
    at = int(scan_tar(path, "stereo/centre").offsets[3]) - 512
    data[at : at + 100] = b"x" * 100
    path.write_bytes(data)
    index = scan_tar(path, "stereo/centre")
    assert (len(index.timestamps), bool(index.truncated)) == (3, True)


def member(name, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


@pytest.mark.parametrize(
    "extra",
    [
        member("/etc/passwd"),
        member("a/../../etc/passwd"),
        member("x/1.png", tarfile.SYMTYPE, "/etc/passwd"),
        member("x/1.png", tarfile.LNKTYPE, "x/2.png"),
        member("x/1.png", tarfile.FIFOTYPE),
        member("x/1.png", tarfile.CHRTYPE),
    ],
)
def test_tars_that_lead_elsewhere_are_refused(tmp_path, extra):
    path = write_tar(tmp_path / "a.tar", DATE, stamps_of(2), extra=[extra])
    with pytest.raises(DataError, match=r"a\.tar: member"):
        scan_tar(path, "stereo/centre")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\n <html><body>Sign in</body></html>", "web page"),
        (b"something else" * 100, "not a tar"),
        (b"\x1f\x8b" + b"1" * 600, "not a tar"),
    ],
)
def test_what_is_no_tar_is_refused(tmp_path, data, said):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(DataError, match=said):
        scan_tar(path, "stereo/centre")


def test_a_header_that_declares_much_is_not_believed(tmp_path):
    header = member("x", tarfile.XHDTYPE)
    header.size = 3 * 2**30
    path = tmp_path / "a.tar"
    path.write_bytes(header.tobuf() + b"1 x=y\n" * 1000)
    with pytest.raises(DataError, match="not a tar"):
        scan_tar(path, "stereo/centre")
    large = member(f"{DATE}/stereo/centre/1.png")
    large.size = 2**33
    path.write_bytes(large.tobuf() + b"1" * 1000)
    with pytest.raises(DataError, match="8,589,934,592 bytes"):
        scan_tar(path, "stereo/centre")


def places(index):
    """Every image and table that was found, with its offset and size."""
    names = [*index.timestamps.tolist(), *index.tables]
    offsets = [*index.offsets.tolist(), *(offset for offset, _ in index.tables.values())]
    sizes = [*index.sizes.tolist(), *(size for _, size in index.tables.values())]
    return set(zip(names, offsets, sizes, strict=True))


# From the end: small numbers are drawn often, and a damaged first header leaves nothing to find.
FROM_END = st.integers(1, 4096)


@settings(max_examples=150, deadline=None)
@given(
    damage=st.lists(st.tuples(FROM_END, st.integers(0, 255)), max_size=6),
    lost=st.integers(0, 4096),
)
def test_any_damage_is_an_error_or_a_part(damage, lost, tmp_path_factory):
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    write_tar(path, DATE, stamps_of(3), extra=[member(f"{DATE}/gps/ins.csv")])
    whole, sound = places(scan_tar(path, "stereo/centre")), path.read_bytes()[:4096]
    assert len(whole) == 4
    content = bytearray(sound)
    for at, value in damage:
        content[-at] = value
    del content[len(content) - lost :]
    path.write_bytes(content)
    try:
        found = scan_tar(path, "stereo/centre")
    except DataError as error:
        found = error
    if isinstance(found, DataError):
        assert str(path) in str(found)
        return
    assert (np.diff(found.timestamps) > 0).all()
    changed = [at for at in range(len(content)) if content[at] != sound[at]]
    # Two changed bytes can make up for each other in a header's checksum, one cannot.
    forged = {
        start for _, start, _ in whole if sum(start - 512 <= at < start for at in changed) > 1
    }
    assert all(start + size <= len(content) for _, start, size in places(found))
    assert {place for place in places(found) if place[1] not in forged} <= whole
    assert found.truncated or forged or places(found) == whole


@pytest.mark.parametrize("layout", ["extracted", "apart", "tars"])
def test_every_tree_has_the_same_frames(tmp_path, layout):
    write_tree(tmp_path, layout, [DATE], 12)
    traversal = find_traversals(tmp_path, "stereo/centre")[DATE]
    frames = list_frames(traversal, "stereo/centre", tmp_path / "cache")
    assert frames.timestamps.tolist() == stamps_of(12).tolist()
    assert frames.chunks.tolist() == [1] * 6 + [2] * 6
    assert not frames.faults
    for row in range(12):
        data = frames.read(row)
        np.testing.assert_array_equal(decode_png(data, frames.name(row)), frame(row))


def test_chunks_named_but_absent_and_images_missing(tmp_path):
    write_tree(tmp_path, "tars", [DATE], 12)
    (tmp_path / f"{DATE}_stereo_centre_02.tar").write_text("<html>log in</html>")
    traversal = find_traversals(tmp_path, "stereo/centre")[DATE]
    frames = list_frames(traversal, "stereo/centre", tmp_path / "cache")
    assert frames.absent_chunks == {2: 6}
    assert frames.num_absent == 0
    assert "web page" in frames.faults[0]
    write_tree(tmp_path / "b", "extracted", [DATE], 12)
    (tmp_path / f"b/{DATE}/stereo/centre/{stamps_of(12)[3]}.png").unlink()
    traversal = find_traversals(tmp_path / "b", "stereo/centre")[DATE]
    frames = list_frames(traversal, "stereo/centre", tmp_path / "cache")
    assert (frames.num_absent, frames.absent_chunks) == (1, {})
