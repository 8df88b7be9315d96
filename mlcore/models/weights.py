"""Weights to start from: torchvision's for ImageNet, or a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from mlcore.errors import DataError

_CLASSIFIERS = ("fc.", "classifier.")


def load_weights(layers: nn.Module, name: str, source: str) -> None:
    """Load weights into the layers of a torchvision network.

    Args:
        layers: Layers named as in torchvision; the classifier may be missing.
        name: torchvision's name of the network.
        source: "imagenet", or the path of a state dictionary.

    Raises:
        DataError: The weights can be neither found nor downloaded, are no state
            dictionary, or belong to another network.
    """
    path = _downloaded(name) if source == "imagenet" else Path(source)
    state = {
        key: value for key, value in _read(path).items() if not key.startswith(_CLASSIFIERS)
    }
    try:
        layers.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{path} does not hold the weights of {name}: {error}") from error


def _downloaded(name: str) -> Path:
    """Return torchvision's file of ImageNet weights, fetched if it is not there yet."""
    from torchvision.models import get_model_weights

    url = str(get_model_weights(name)["IMAGENET1K_V1"].url)
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), _hash_prefix(path), progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"the ImageNet weights of {name} cannot be downloaded: {error}. Put {url} at "
            f"{path}, or give --model.pretrained none or the path of a state dictionary"
        ) from error
    return path


def _hash_prefix(path: Path) -> str:
    """Return the start of the SHA-256 in a name such as ``vgg16-397923af.pth``."""
    return path.stem.rpartition("-")[2]


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"no file of weights at {path} (--model.pretrained)") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise DataError(
            f"{path} cannot be read as weights (--model.pretrained): {error}"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise DataError(f"{path} is not a state dictionary: names to tensors, nothing else")
    return state
