"""Raw frames to colour images: demosaic, undistort, scale down. OpenCV does the work.

OpenCV names a Bayer pattern by the pixels of its *second* row and column; its newer names,
such as ``BayerGBRG``, are those of the first, as everybody else's: only these are used here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.config import Camera

Pixels = NDArray[np.uint8]

SMALLEST_PX, LARGEST_PX = 4, 4_000
"""Of either side of a raw frame; Oxford's have 1280 x 960."""
_BORDER_PX = 2

TABLES: dict[Camera, str] = {
    "stereo/centre": "stereo_narrow_left_distortion_lut.bin",
    "stereo/left": "stereo_wide_left_distortion_lut.bin",
    "stereo/right": "stereo_wide_right_distortion_lut.bin",
    "mono_left": "mono_left_distortion_lut.bin",
    "mono_right": "mono_right_distortion_lut.bin",
    "mono_rear": "mono_rear_distortion_lut.bin",
}
"""Name of each camera's distortion table, as its authors give it out."""


class Lookup(NamedTuple):
    """Where each undistorted pixel is in the distorted image.

    Attributes:
        columns: ``(H, W)`` float32.
        rows: ``(H, W)`` float32.
    """

    columns: NDArray[np.float32]
    rows: NDArray[np.float32]


def one_thread() -> None:
    """Keep OpenCV to one thread in this process: there is a process for each core."""
    cv2.setNumThreads(1)


def decode_png(data: bytes, name: str) -> Pixels:
    """Return a frame as it is saved, ``(H, W)``, or ``(H, W, 3)`` RGB if it is in colour.

    Raises:
        DataError: It cannot be decoded, or is no 8-bit image of a plausible size.
    """
    size = _declared_size(data)
    if size is None or not SMALLEST_PX <= min(size) <= max(size) <= LARGEST_PX:
        what = "it is no PNG" if size is None else f"it declares {size[0]} x {size[1]} pixels"
        raise DataError(f"image {name} cannot be decoded: {what}; download it again")
    if not _is_whole(data):
        raise DataError(f"image {name} cannot be decoded: the file is damaged or truncated")
    try:
        with _silent():
            image: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"image {name} cannot be decoded: {error}") from error
    if image is None:
        raise DataError(f"image {name} cannot be decoded: the file is damaged or truncated")
    if image.dtype != np.uint8:
        raise DataError(f"image {name} must have 8 bits per pixel, got {image.dtype}")
    if image.ndim == 3:
        code = cv2.COLOR_BGRA2RGB if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
        image = cv2.cvtColor(image, code)
    return _pixels(image)


def _is_whole(data: bytes) -> bool:
    """Return whether all chunks of a PNG are there, up to the last.

    OpenCV makes room for what a chunk declares, gigabytes in a damaged file, and then reads.
    """
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


@contextmanager
def _silent() -> Iterator[None]:
    """Keep OpenCV from printing what is raised as an error that names the file."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _pixels(image: Any) -> Pixels:
    """Return what OpenCV says may be any array as what it is here."""
    pixels: Pixels = image
    return pixels


def _declared_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG by its header, which is read before the pixels."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or len(data) < 33:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def demosaic(raw: Pixels, camera: Camera) -> Pixels:
    """Return a Bayer frame ``(H, W)`` as RGB ``(H, W, 3)``, missing colours bilinear.

    Each is the mean of its two or four nearest neighbours, to the nearest grey level; beyond
    the border the frame is mirrored.

    Args:
        raw: GBRG of the stereo cameras, RGGB of the others.
        camera: Says which.
    """
    stereo = camera.startswith("stereo")
    code = cv2.COLOR_BayerGBRG2RGB if stereo else cv2.COLOR_BayerRGGB2RGB
    # Two pixels keep the pattern in phase; OpenCV by itself repeats the outermost colours.
    framed = cv2.copyMakeBorder(raw, *(_BORDER_PX,) * 4, cv2.BORDER_REFLECT_101)
    colour = cv2.cvtColor(framed, code)
    return _pixels(colour[_BORDER_PX:-_BORDER_PX, _BORDER_PX:-_BORDER_PX])


def lookup_file(path: Path, camera: Camera) -> Path:
    """Return the distortion table of a camera: the file, or that in a folder.

    Raises:
        DataError: There is none.
    """
    file = path / TABLES[camera] if path.is_dir() else path
    if not file.is_file():
        raise DataError(
            f"distortion table {file} does not exist; it is {TABLES[camera]} in the folder "
            "models of the data set's SDK"
        )
    return file


@lru_cache(maxsize=2)
def read_lookup(path: Path, camera: Camera, height: int, width: int) -> Lookup:
    """Read a ``*_distortion_lut.bin``: float64 ``(2, H * W)``, columns, then rows.

    Args:
        path: The file, or the folder with the camera's.
        camera: Whose.
        height: Of the camera's images.
        width: Likewise.

    Raises:
        DataError: It is missing, or of another size of images, or no table.
    """
    if path.is_dir():
        path = path / TABLES[camera]
    due = 2 * height * width * 8
    try:
        size = path.stat().st_size
        if size != due:
            raise DataError(
                f"distortion table {path} has {size:,} bytes; images of {camera} are "
                f"{width} x {height}, which needs {due:,}: it belongs to another camera"
            )
        table = np.fromfile(path, "<f8").reshape(2, height, width)
    except OSError as error:
        raise DataError(
            f"distortion table {path} cannot be read: {error.strerror or error}; it is "
            f"{TABLES[camera]} in the folder models of the data set's SDK"
        ) from error
    if not np.isfinite(table).all() or np.abs(table).max() > 10 * LARGEST_PX:
        raise DataError(f"distortion table {path} holds no pixel positions; download it again")
    return Lookup(columns=table[0].astype(np.float32), rows=table[1].astype(np.float32))


def undistort(image: Pixels, lookup: Lookup) -> Pixels:
    """Return the image sampled bilinearly where the table says; outside it is black."""
    return _pixels(cv2.remap(image, lookup.columns, lookup.rows, cv2.INTER_LINEAR))


def fit(image: Pixels, longest_side_px: int) -> Pixels:
    """Return the image scaled down to a longest side, by area; never scaled up."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if longest <= longest_side_px:
        return image
    scale = longest_side_px / longest
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return _pixels(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def develop(
    raw: Pixels, camera: Camera, distortion_table: Path | None, longest_side_px: int
) -> Pixels:
    """Return a raw frame as RGB ``(h, w, 3)``: demosaiced, undistorted, scaled down.

    Frames that somebody else has demosaiced are only undistorted and scaled.

    Raises:
        DataError: The distortion table does not fit.
    """
    image = demosaic(raw, camera) if raw.ndim == 2 else raw
    if distortion_table is not None:
        height, width = image.shape[:2]
        image = undistort(image, read_lookup(distortion_table, camera, height, width))
    return fit(image, longest_side_px)


def encode(image: Pixels, image_format: str, jpeg_quality: int) -> bytes:
    """Return an RGB image as the bytes of a JPEG or PNG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if image_format == "png":
        done, data = cv2.imencode(".png", bgr)
    else:
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality])
    assert done, "OpenCV encodes 8-bit images"
    return data.tobytes()
