"""Images for the report: small JPEGs as data URIs, within a total budget."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = ((256, 75), (208, 68), (160, 60), (120, 52), (88, 45), (64, 40))
"""Longest side in pixels and JPEG quality, tried in this order."""


def data_uri(content: bytes, kind: str) -> str:
    """Return content as a data URI; ``kind`` is "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg(pixels: NDArray[np.uint8], longest_px: int, quality: int) -> bytes:
    """Return an image ``(H, W, 3)`` as JPEG, scaled down to ``longest_px``."""
    image = Image.fromarray(pixels)
    image.thumbnail((longest_px, longest_px), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, format="jpeg", quality=quality, optimize=True)
    return out.getvalue()


def thumbnails(
    indices: Iterable[int],
    load_image: Callable[[int], Tensor],
    *,
    most_bytes: int,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Mapping[int, str]:
    """Return a data URI of each image, at the largest size that fits the budget.

    Each image is read once and kept as JPEG of the first size, from which smaller ones are
    made.

    Args:
        indices: Of the images; each is read once.
        load_image: Returns uint8 ``(3, H, W)``, given an index.
        most_bytes: Budget of all URIs; the smallest size is used even if it exceeds it.
        progress: Called with the numbers of images read and of all.
    """
    wanted = list(dict.fromkeys(indices))
    encoded: dict[int, bytes] = {}
    for done, index in enumerate(wanted, start=1):
        pixels = load_image(index).permute(1, 2, 0).numpy()
        encoded[index] = jpeg(pixels, *_SIZES[0])
        progress(done, len(wanted))
    for longest_px, quality in _SIZES[1:]:
        if sum(4 * len(content) / 3 + 32 for content in encoded.values()) <= most_bytes:
            break
        encoded = {
            index: jpeg(np.asarray(Image.open(io.BytesIO(content))), longest_px, quality)
            for index, content in encoded.items()
        }
    return {index: data_uri(content, "jpeg") for index, content in encoded.items()}
