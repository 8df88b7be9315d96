"""Weights to start from: published ones, or a file.

No file is opened in a way that could run code: ``weights_only`` always.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn

from mlcore.errors import ConfigError, DataError, UnknownNameError, require_library
from mlcore.factories import Weights
from mlcore.models.embedding import EmbeddingModel
from mlcore.models.networks import Network

_WRAPPERS = ("kept_weights", "state_dict", "model_state_dict", "model")
_PREFIXES = ("model.", "module.")
_COUNTER = "num_batches_tracked"
"""A number of batch norms that no embedding depends on; many files lack it."""


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """What became of the tensors of a file of weights.

    Attributes:
        path: The file.
        sha256: Its hash.
        fit: Names of the model's tensors that the file gave.
        missing: Names of the model's tensors that it did not.
        left_over: Names of the file's tensors that found no use.
    """

    path: Path
    sha256: str
    fit: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]

    @property
    def origin(self) -> Mapping[str, str]:
        """Path and hash, for the run's environment."""
        return {"path": str(self.path), "sha256": self.sha256}

    @property
    def by_part(self) -> Sequence[tuple[str, int, int, int]]:
        """Counts (fit, missing, left over) by the first word of the tensors' names."""
        kinds = (self.fit, self.missing, self.left_over)
        counts = [Counter(name.partition(".")[0] for name in names) for names in kinds]
        parts = dict.fromkeys(part for count in counts for part in count)
        fit, missing, left_over = counts
        return [(part, fit[part], missing[part], left_over[part]) for part in parts]


def locate(
    source: str, offered: Sequence[Weights], cache_dir: Path, name: str = "the model"
) -> Path:
    """Return the file that ``--model.weights`` means: published weights by name, or a file.

    Args:
        source: The option's value.
        offered: Published weights of the model.
        cache_dir: Where downloads are kept.
        name: What to call the model's backbone in a message.

    Raises:
        DataError: The file cannot be had, or is not what was published.
        ConfigError: There is no such name or file.
    """
    for weights in offered:
        if weights.name == source:
            return _published(weights, cache_dir)
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise DataError(f"no file of weights at {path} (--model.weights)")
    if not offered:
        raise ConfigError(
            f"--model.weights {source}: no weights are published for {name}; give none, a "
            "file of weights, or the folder of a trained run"
        )
    raise UnknownNameError(
        f"weights of {name}",
        source,
        ["none", *(weights.name for weights in offered)],
        "(--model.weights also takes a file of weights or the folder of a trained run)",
    )


def load_weights(model: EmbeddingModel, path: Path, name: str = "the model") -> LoadedWeights:
    """Load the tensors of a file that fit a model.

    Names are those of the model itself, as in a checkpoint of mlcore, or those of the
    published backbone. All of the backbone must be there; a pooling or a projection of
    another kind or size keeps what it has.

    Args:
        model: Changed in place.
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file.
        name: What to call the model's backbone in a message.

    Raises:
        DataError: The file holds no weights, or those of another network.
    """
    state = _stripped(_unwrapped(read_weights(path), path))
    target: nn.Module = model
    prefix = ""
    if isinstance(model, Network) and not any(key.startswith("backbone.") for key in state):
        backbone, target = model.backbone, model.backbone.published
        prefix = _name_of(target, model)
        try:
            state = backbone.convert(state)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} does not hold the weights of {name}: {error}") from error
    own = target.state_dict()
    fit = {key: t for key, t in state.items() if key in own and own[key].shape == t.shape}
    needed = [key for key in own if not key.endswith(_COUNTER)]
    if prefix or isinstance(model, Network):
        needed = [key for key in needed if prefix or key.startswith("backbone.")]
    lacking = [key for key in needed if key not in fit]
    if lacking:
        raise DataError(
            f"{path} does not hold the weights of {name}: of its {len(needed)} tensors "
            f"{len(lacking)} are missing or of another shape, such as {lacking[0]}"
        )
    target.load_state_dict({**own, **fit})
    whole = [f"{prefix}{key}" for key in fit]
    return LoadedWeights(
        path=path,
        sha256=_sha256(path),
        fit=tuple(whole),
        missing=tuple(key for key in model.state_dict() if key not in set(whole)),
        left_over=tuple(key for key in state if key not in fit),
    )


def read_weights(path: Path) -> object:
    """Read a file of weights.

    Raises:
        DataError: It cannot be read without running code, or is not a file of weights.
    """
    if path.suffix == ".safetensors":
        require_library(f"{path}", "safetensors", "mlcore-localization[timm]")
        from safetensors.torch import load_file
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how a file was pickled
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise DataError(f"no file of weights at {path} (--model.weights)") from None
    except Exception as error:
        if "unsupported global" in str(error).lower() or "Unsupported class" in str(error):
            raise DataError(
                f"{path} holds Python objects beside tensors (--model.weights); mlcore never "
                "runs what a file of weights brings, so save it as a state dictionary"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if isinstance(error, pickle.UnpicklingError | EOFError | LookupError):
            # torch's words are the opcode where it stopped, or advice to run the file
            reason = "it is not a file that torch.save wrote"
        if path.stat().st_size == 0:
            reason = "it is empty"
        raise DataError(
            f"{path} cannot be read as weights (--model.weights): {reason}"
        ) from error


def _unwrapped(state: object, path: Path) -> Mapping[str, Tensor]:
    """Return the names and tensors in what a file holds."""
    while isinstance(state, Mapping):
        inner = next(
            (state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)), None
        )
        if inner is None:
            break
        state = inner
    if (
        not isinstance(state, Mapping)
        or not state
        or not all(isinstance(value, Tensor) for value in state.values())
    ):
        raise DataError(f"{path} is not a state dictionary: names to tensors, nothing else")
    return state


def _stripped(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the tensors without the prefixes that training loops put before their names.

    Of a checkpoint of mlcore, the loss's own tensors are left out.
    """
    for prefix in _PREFIXES:
        if any(key.startswith(f"{prefix}backbone.") for key in state):
            state = {key: value for key, value in state.items() if key.startswith(prefix)}
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _name_of(module: nn.Module, model: nn.Module) -> str:
    """Return the prefix of a module's tensors in the model's state dictionary."""
    return next(f"{name}." for name, found in model.named_modules() if found is module)


def _published(weights: Weights, cache_dir: Path) -> Path:
    path = _in_package(weights) if weights.package else _downloaded(weights, cache_dir)
    found = _sha256(path)
    if not found.startswith(weights.sha256):
        raise DataError(
            f"{path} is not the published file of the weights {weights.name!r}: its SHA-256 "
            f"is {found[:12]}..., not {weights.sha256[:12]}...; remove it and fetch it again"
        )
    return path


def _in_package(weights: Weights) -> Path:
    weights.require_package()
    spec = find_spec(weights.package)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / weights.file
        if path.is_file():
            return path
    raise ConfigError(
        f"the package {weights.package} has no {weights.file}; install the version that "
        f"'{weights.install}' names, or give --model.weights none"
    )


def _downloaded(weights: Weights, cache_dir: Path) -> Path:
    """Return the file in torch's cache or mlcore's, fetched if it is in neither."""
    path = cache_dir / "weights" / weights.file
    for known in (path, Path(torch.hub.get_dir()) / "checkpoints" / weights.file):
        if known.is_file():
            return known
    address = weights.address if isinstance(weights.address, str) else weights.address()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sys.stderr.write(f"note: downloading {address}\n")
        torch.hub.download_url_to_file(address, str(path), progress=False)
    except (URLError, OSError, RuntimeError) as error:
        raise DataError(
            f"the weights {weights.name!r} cannot be downloaded ({error}); put {address} at "
            f"{path}, or give --model.weights none or the path of a file"
        ) from error
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
