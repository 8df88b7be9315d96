"""Images for the report: small JPEGs as data URIs, all together within a budget."""

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
"""Longest side in pixels and quality, tried in turn."""


def data_uri(content: bytes, kind: str) -> str:
    """Return content as a URI that needs no file; ``kind`` is "jpeg" or "png"."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg(pixels: NDArray[np.uint8], longest_px: int, quality: int) -> bytes:
    """Return an image ``(H, W, 3)`` as JPEG, made smaller if its sides are longer."""
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
    """Return a data URI of each image, the largest size at which all fit into a budget.

    Each image is read once; at most ``most_bytes`` plus one image are held, for of each a
    copy of the first size is kept and made smaller from there.

    Args:
        indices: Of the images; repetitions are shown once.
        load_image: Returns uint8 ``(3, H, W)``, given an index.
        most_bytes: Of all URIs together. The smallest size is used whatever it takes.
        progress: Told how many images were read, of how many.
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
