"""A trained model as a folder: all that embedding an image takes, and no training data.

=======================  ==============================================================
``model.json``           the network's options, its input, where it came from
``weights.safetensors``  its weights
``whitening.npz``        what evaluation whitened embeddings with; absent for none
``confidence.json``      when an answer can be trusted; absent without validation queries
=======================  ==============================================================

A run has one as it was evaluated, and every map a copy of that.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.files import atomic_write
from mlcore.options import Command, RawOption, RunConfig, reopen, run_to_toml
from mlcore.options.config import model_input_size
from mlcore.protocols import Progress, no_progress
from mlcore.registry.discovery import Registry
from mlcore.retrieval.confidence import Confidence, read_confidence, save_confidence
from mlcore.retrieval.whitening import Whitening
from mlcore.run_folder import describe_environment

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.models.embedding import EmbeddingModel
    from mlcore.retrieval.embedder import Embedder

FORMAT = 1
"""Raised when a model written today could not be opened by an older mlcore."""

FILES = ("model.json", "weights.safetensors", "whitening.npz", "confidence.json")
_NETWORK_SECTIONS = ("model", "backbone", "pooling")


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """The content of ``model.json``.

    Attributes:
        run: Name of the run's folder.
        step: Optimizer steps that it was trained for.
        options: The sections of the run's ``config.toml`` that decide the network and how
            references are chosen.
        seed: The run's.
        normalize: Whether the network's embeddings have unit length.
        input_size: Height and width in pixels that images are letterboxed to.
        embedding_dim: Dimensions of the network's embeddings.
        dimensions: Dimensions after whitening.
        whitening: The images it was fitted on: "train", "references" or "none".
        loss: Name of the loss.
        dataset: Name of the data set that it was trained on.
        data_fingerprint: That data set's.
        versions: Of mlcore and of the libraries that computed the weights.
        weights_sha256: Of ``weights.safetensors``.
        identity: Equal for models that embed alike: hash of options, weights and whitening.
        best_step: The step whose weights these are, where the best of the validations were
            kept; None for those of ``step``.
    """

    run: str
    step: int
    options: Mapping[str, Mapping[str, Any]]
    seed: int
    normalize: bool
    input_size: tuple[int, int]
    embedding_dim: int
    dimensions: int
    whitening: str
    loss: str
    dataset: str
    data_fingerprint: str
    versions: Mapping[str, str]
    weights_sha256: str
    identity: str
    best_step: int | None = None


@dataclass(frozen=True, kw_only=True)
class DeployedModel:
    """A model that was opened from its folder.

    Attributes:
        path: The folder.
        info: What it says of itself.
        network: The network with the trained weights, in evaluation mode.
        whitening: To be applied to the network's embeddings; None for none.
        config: The network's options; everything else is as a command line changed it.
        confidence: When its answers can be trusted; None if that was not measured.
    """

    path: Path
    info: ModelInfo
    network: EmbeddingModel
    whitening: Whitening | None
    config: RunConfig
    confidence: Confidence | None = None

    def embedder(self, progress: Progress = no_progress) -> Embedder:
        """Return what embeds images, not yet whitened."""
        from mlcore.evaluation.evaluate import embedder_of

        return embedder_of(self.network, self.config, progress)

    def whiten(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map the network's embeddings ``(N, D)`` to ``(N, K)``, as evaluation did."""
        return embeddings if self.whitening is None else self.whitening(embeddings)


def save_model(
    path: Path,
    network: EmbeddingModel,
    config: RunConfig,
    whitening: Whitening | None,
    *,
    confidence: Confidence | None,
    run: str,
    step: int,
    best_step: int | None = None,
    data_fingerprint: str,
) -> ModelInfo:
    """Write a model folder, or write it anew; ``model.json`` comes last.

    Args:
        path: The folder; made if it does not exist.
        network: With its trained weights, on any device.
        config: The run's, resolved.
        whitening: What evaluation applied; None for none.
        confidence: When its answers can be trusted; None if that is not known.
        run: Name of the run.
        step: Optimizer steps that the network was trained for.
        best_step: The step that the weights are of, where the best were kept.
        data_fingerprint: The data set's.
    """
    from safetensors.torch import save

    path.mkdir(exist_ok=True)
    weights = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    content = save(weights, {"format": "pt"})
    with atomic_write(path / "weights.safetensors") as file:
        file.write(content)
    if whitening is None:
        (path / "whitening.npz").unlink(missing_ok=True)
    else:
        arrays: dict[str, Any] = whitening.to_arrays()
        with atomic_write(path / "whitening.npz") as file:
            np.savez(file, **arrays)
    save_confidence(path, confidence)
    document = tomllib.loads(run_to_toml(config))
    options = {name: document[name] for name in _NETWORK_SECTIONS if name in document}
    environment = describe_environment([], device="", fingerprint="", notes=[])
    described: dict[str, Any] = {
        "options": {**options, "evaluation": {"spacing_m": config.evaluation.spacing_m}},
        "seed": config.seed,
        "normalize": network.normalize,
        "input_size": model_input_size(config),
        "embedding_dim": network.embedding_dim,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    info = ModelInfo(
        **described,
        run=run,
        step=step,
        best_step=best_step,
        dimensions=network.embedding_dim if whitening is None else whitening.dimensions,
        whitening="none" if whitening is None else whitening.source,
        loss=config.loss.name,
        dataset=config.dataset.name,
        data_fingerprint=data_fingerprint,
        versions={"mlcore": environment["mlcore"], **environment["versions"]},
        identity=_identity(described, whitening),
    )
    with atomic_write(path / "model.json") as file:
        text = json.dumps({"format": FORMAT, **asdict(info)}, indent=1, allow_nan=False)
        file.write((text + "\n").encode())
    return info


def find_model(path: Path) -> Path | None:
    """Return the model folder of a run or a map, or the folder itself if it is one."""
    for folder in (path / "model", path):
        if (folder / "model.json").is_file():
            return folder
    return None


def read_info(path: Path) -> ModelInfo:
    """Read ``model.json`` in a model folder.

    Raises:
        DataError: It is missing, damaged or newer than this mlcore.
    """
    file = path / "model.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        version = content.pop("format")
        if version > FORMAT:
            raise DataError(
                f"model {path} has format {version}, this mlcore reads formats up to {FORMAT}; "
                "update mlcore"
            )
        content.setdefault("best_step", None)  # of versions without it
        known = {field.name: content[field.name] for field in fields(ModelInfo)}
        return ModelInfo(**{**known, "input_size": tuple(content["input_size"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} cannot be read: {error!r}") from error


def load_model(
    path: Path,
    registry: Registry,
    *,
    options: Sequence[RawOption] = (),
    changes: Sequence[RawOption] = (),
    command: Command | None = None,
) -> DeployedModel:
    """Open a model folder.

    Args:
        path: The folder.
        registry: Where the network comes from; neither its data set nor its loss need be there.
        options: Further options that were kept with the model, such as a run's data set.
        changes: Options of the command line.
        command: The command, to be named in messages.

    Raises:
        DataError: A file is missing, damaged or of another model.
        ConfigError: The network is not installed, or an option does not exist.
    """
    info = read_info(path)
    whitening = _read_whitening(path, info)
    weights = _read_weights(path, info)
    if _identity(vars(info), whitening) != info.identity:
        raise DataError(
            f"the files of {path} are not of one model; copy the folder again, or remove it "
            "and write it again with 'mlcore evaluate RUN'"
        )
    file = path / "model.json"
    kept = [RawOption(section="", option="seed", value=info.seed, file=file)]
    kept += [
        RawOption(section=section, option=option, value=value, file=file)
        for section, values in info.options.items()
        for option, value in values.items()
    ]
    asks_for_data = any(item.section == "dataset" for item in [*options, *changes])
    config = reopen(
        [*kept, *options],
        changes,
        registry,
        command=command or Command(),
        without=("loss",) if asks_for_data else ("loss", "dataset"),
    )

    from mlcore.networks import model_with

    network = model_with(config, weights, str(path / "weights.safetensors"))
    network.normalize = info.normalize
    return DeployedModel(
        path=path,
        info=info,
        network=network,
        whitening=whitening,
        config=config,
        confidence=read_confidence(path),
    )


def _read_weights(path: Path, info: ModelInfo) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    file = path / "weights.safetensors"
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != info.weights_sha256:
            raise DataError(f"{file} is damaged: it is not what model.json describes")
        weights: dict[str, Tensor] = load(content)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    return weights


def _read_whitening(path: Path, info: ModelInfo) -> Whitening | None:
    if info.whitening == "none":
        return None
    file = path / "whitening.npz"
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return Whitening.from_arrays(arrays)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _identity(info: Mapping[str, Any], whitening: Whitening | None) -> str:
    """Return a hash of all that decides an embedding."""
    network = {name: info["options"].get(name) for name in _NETWORK_SECTIONS}
    decides = ("normalize", "input_size", "embedding_dim", "weights_sha256")
    text = json.dumps([network, *(info[name] for name in decides)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    if whitening is not None:
        for array in (whitening.mean, whitening.components, whitening.deviation):
            digest.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    return digest.hexdigest()[:32]
