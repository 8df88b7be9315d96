"""Images as uint8 tensors ``(3, H, W)``, RGB: reading, fitting to a size, augmenting.

Shared by all data sets and the engine.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate

from mlcore.data.image_formats import formats, open_image, upright
from mlcore.errors import DataError

MAX_PIXELS = 100_000_000
"""An image that declares more is refused before it is decoded."""

NAMED_BY_USER = "replace it, or leave it out"
"""How to fix an unreadable image that the user names, which is never skipped."""

SKIPPABLE = "replace it, or set training.skip_unreadable = true to leave such images out"
_ASPECT_TOLERANCE_PX = 1.0


def read_image(path: Path, *, remedy: str = SKIPPABLE) -> Tensor:
    """Return the image at ``path`` as uint8 ``(3, H, W)``, upright, RGB.

    Grey, palette, CMYK and 16-bit images are converted, transparency is dropped, EXIF
    orientation is applied.

    Args:
        path: The file.
        remedy: How to fix it, for the message.

    Raises:
        DataError: The file is missing, not an image, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit is checked below; Pillow's warning would say the same twice.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with open_image(path) as image:
                _check_size(image, path)
                return rgb_image(image)
    except (DataError, MemoryError):
        raise
    except FileNotFoundError:
        raise DataError(f"no image at {path}") from None
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is not an image of a known format ({', '.join(formats())}); {remedy}"
        ) from error
    except Exception as error:
        # A damaged file makes Pillow's decoders raise nearly anything.
        raise DataError(f"image {path} cannot be decoded: {error}; {remedy}") from error


def rgb_image(image: Image.Image) -> Tensor:
    """Return an image of Pillow as uint8 ``(3, H, W)``, upright, converted as in `read_image`.

    Raises:
        ValueError: Its pixels are floating-point numbers.
    """
    return torch.from_numpy(_as_rgb(upright(image))).permute(2, 0, 1).contiguous()


def letterbox(image: Tensor, height: int, width: int) -> Tensor:
    """Return the image scaled to fit into ``height`` x ``width``, its aspect kept.

    What remains is filled with the image's mean colour, which stands out least.

    Args:
        image: uint8 ``(3, H, W)``.
        height: Of the result, in pixels.
        width: Of the result, in pixels.
    """
    _, old_height, old_width = image.shape
    if (old_height, old_width) == (height, width):
        return image
    if fits(image, height, width):
        return _resize(image, height, width)
    scale = min(height / old_height, width / old_width)
    new_height = max(1, round(old_height * scale))
    new_width = max(1, round(old_width * scale))
    result = _mean(image[None])[0].round().to(torch.uint8).expand(3, height, width).clone()
    top, left = (height - new_height) // 2, (width - new_width) // 2
    result[:, top : top + new_height, left : left + new_width] = _resize(
        image, new_height, new_width
    )
    return result


def fits(image: Tensor, height: int, width: int) -> bool:
    """Return whether the image has the aspect of ``height`` x ``width``, to a pixel."""
    _, old_height, old_width = image.shape
    scale = min(height / old_height, width / old_width)
    return (
        height - old_height * scale < _ASPECT_TOLERANCE_PX
        and width - old_width * scale < _ASPECT_TOLERANCE_PX
    )


def augment(
    images: Tensor, seed: int, step: int, *, slots: NDArray[np.integer] | None = None
) -> Tensor:
    """Return augmented images, varied in brightness, colour, scale and position.

    Never mirrored: a mirrored street is another place. What happens to an image depends
    on the seed, the step and its slot in the batch, and on nothing else.

    Args:
        images: uint8 ``(B, 3, H, W)``.
        seed: Of the run's augmentation.
        step: Optimizer step.
        slots: ``(B,)`` ascending, the slot of each image; None for 0 to B - 1.
    """
    slots = np.arange(len(images)) if slots is None else slots
    # Rows are drawn in order: the draws of a slot do not depend on the number of slots.
    generator = np.random.default_rng((seed, step))
    drawn = generator.uniform(-1.0, 1.0, size=(int(slots.max(initial=-1)) + 1, 8))
    draws = torch.from_numpy(drawn[slots]).float()
    gain = torch.exp(0.35 * draws[:, 3:4] + 0.1 * draws[:, 4:7])[:, :, None, None]
    contrast = torch.exp(0.3 * draws[:, 7])[:, None, None, None]
    mean = _mean(images).mean(dim=1, keepdim=True)
    # gain * (contrast * (pixel - mean) + mean), in one pass over the pixels.
    moved = _move(images, draws[:, :3])
    varied = torch.addcmul(gain * (1 - contrast) * mean, moved, gain * contrast)
    return varied.clamp_(0, 255).add_(0.5).to(torch.uint8)


def _move(images: Tensor, draws: Tensor) -> Tensor:
    """Scale by up to 8 % and shift by up to 4 % of the side; ``draws`` is ``(B, 3)``."""
    num_images, _, height, width = images.shape
    scale, shift = torch.exp(0.08 * draws[:, :1]), 0.08 * draws[:, 1:]  # sides are 2 long
    x = scale * _pixel_centres(width) + shift[:, :1]
    y = scale * _pixel_centres(height) + shift[:, 1:]
    grid = torch.empty(num_images, height, width, 2, dtype=torch.float32)
    grid[..., 0], grid[..., 1] = x[:, None, :], y[:, :, None]
    return grid_sample(
        images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _pixel_centres(size: int) -> Tensor:
    return (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1


def _mean(images: Tensor) -> Tensor:
    """Return the mean colours ``(B, 3, 1, 1)``, summed exactly: threads change nothing."""
    return images.sum(dim=(2, 3), keepdim=True) / (images.shape[2] * images.shape[3])


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    return interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0]


def _check_size(image: Image.Image, path: Path) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(
            f"image {path} has {width} x {height} pixels, more than {MAX_PIXELS:,}; "
            "make it smaller"
        )


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):
        # 16 bits a pixel, which Pillow would clip to the lowest 8.
        values = np.asarray(image, dtype=np.float64) * (255 / 65535)
        grey = np.clip(values, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns of palettes that skip this step
    return np.array(image.convert("RGB"))
