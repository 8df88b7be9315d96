"""Colour images to raw Bayer frames: the inverse of :mod:`mlcore_robotcar.prepare.decode`."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.config import Camera
from mlcore_robotcar.prepare.decode import LARGEST_PX, SMALLEST_PX, demosaic, fit

Pixels = NDArray[np.uint8]

_CAMERA: Camera = "stereo/centre"
_ROUNDS = 2
"""Of adding what is lost: a mean of 0.2 grey levels of the town's images is, then."""
_PNG = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE, cv2.IMWRITE_PNG_COMPRESSION, 6)
"""The filters of PNG make a mosaic larger: neighbours are of other colours."""


def mosaic(image: Pixels, enlarge: int) -> Pixels:
    """Return RGB ``(H, W, 3)`` as a Bayer frame GBRG ``(H * enlarge, W * enlarge)``.

    Each pixel is repeated, then each raw pixel keeps the one colour it has. Developing blurs
    colours by a raw pixel; each pixel is sharpened in advance to compensate.
    """
    raw = _sampled(image, enlarge)
    if enlarge == 1:
        return raw  # nothing to add: a raw pixel is all that there is of a pixel
    wanted = image.astype(np.float32)
    given = wanted.copy()
    for _ in range(_ROUNDS):
        given += wanted - fit(demosaic(raw, _CAMERA), max(image.shape))
        raw = _sampled(given.round().clip(0, 255).astype(np.uint8), enlarge)
    return raw


def _sampled(image: Pixels, enlarge: int) -> Pixels:
    large = image.repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    raw = large[..., 1].copy()
    raw[0::2, 1::2] = large[0::2, 1::2, 2]
    raw[1::2, 0::2] = large[1::2, 0::2, 0]
    return raw


def raw_png(image: Pixels, enlarge: int, name: str) -> bytes:
    """Return an RGB image as the PNG of a raw frame, 8 bits, one channel.

    Raises:
        DataError: The frame would be smaller or larger than any that is read.
    """
    sides = [side * enlarge for side in image.shape[:2]]
    if not SMALLEST_PX <= min(sides) <= max(sides) <= LARGEST_PX:
        raise DataError(
            f"image {name} has {image.shape[1]} x {image.shape[0]} pixels: its raw frame would "
            f"have {sides[1]} x {sides[0]}, but sides must be between {SMALLEST_PX} and "
            f"{LARGEST_PX}; choose another --enlarge"
        )
    encoded: Any = cv2.imencode(".png", mosaic(image, enlarge), _PNG)
    done, data = encoded
    assert done, "OpenCV encodes 8-bit images"
    content: bytes = data.tobytes()
    return content
