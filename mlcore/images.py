"""Images as uint8 tensors ``(3, H, W)``, RGB: reading, fitting to a size, varying.

What every data set and the engine need of images, in one place.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from mlcore.errors import DataError

MAX_PIXELS = 100_000_000
"""An image that declares more is refused before it is decoded."""

_ASPECT_TOLERANCE_PX = 1.0


def read_image(path: Path) -> Tensor:
    """Return the image at ``path`` as uint8 ``(3, H, W)``, upright, RGB.

    Grey, palette, CMYK and 16-bit images are converted; EXIF orientation is applied.

    Raises:
        DataError: There is no such file, or it is no image, truncated or too large.
    """
    try:
        with warnings.catch_warnings():
            # Our own limit is checked below; Pillow's warning would say the same twice.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise DataError(
                        f"image {path} has {width} x {height} pixels, more than {MAX_PIXELS}"
                    )
                pixels = _as_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise DataError(f"no image at {path}") from None
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"image {path} cannot be decoded: {error}") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


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
    mean = image.float().mean(dim=(1, 2), keepdim=True).round().to(torch.uint8)
    result = mean.expand(3, height, width).clone()
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


def augment(images: Tensor, seed: int, step: int) -> Tensor:
    """Return the images varied in light, colour, scale and place.

    Never mirrored: a mirrored street is another place. What happens to an image depends
    on the seed, the step and its slot in the batch, and on nothing else.

    Args:
        images: uint8 ``(B, 3, H, W)``.
        seed: Of the run's augmentation.
        step: Optimizer step.
    """
    num_images = len(images)
    draws = np.stack([_draws(seed, step, slot) for slot in range(num_images)])
    moved = _move(images.float(), torch.from_numpy(draws[:, :3]).float())
    light = torch.from_numpy(draws[:, 3:]).float()
    gain = torch.exp(0.35 * light[:, 0] + 0.1 * light[:, 1:4].T).T  # by colour
    contrast = torch.exp(0.3 * light[:, 4])[:, None, None, None]
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    varied = (moved - mean).mul_(contrast).add_(mean).mul_(gain[:, :, None, None])
    return varied.clamp_(0, 255).round_().to(torch.uint8)


def _draws(seed: int, step: int, slot: int) -> NDArray[np.float64]:
    return np.random.default_rng((seed, step, slot)).uniform(-1.0, 1.0, size=8)


def _move(images: Tensor, draws: Tensor) -> Tensor:
    """Scale by up to 8 % and shift by up to 4 % of the side; ``draws`` is ``(B, 3)``."""
    scale = torch.exp(0.08 * draws[:, 0])
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = 0.08 * draws[:, 1:]  # the grid's side is 2 long
    grid = torch.nn.functional.affine_grid(theta, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )


def _resize(image: Tensor, height: int, width: int) -> Tensor:
    resized: Tensor = resize(image, [height, width], antialias=True)
    return resized


def _as_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        # Pillow would clip 16 bits to the lowest 8.
        values = np.asarray(image, dtype=np.float64)
        largest = 65535.0 if values.max(initial=0) > 255 else 255.0
        grey = np.clip(values / largest * 255.0, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))
