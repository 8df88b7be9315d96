"""A trained model in Python: embeds and localizes images without its training data."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.api.matches import Matches
from mlcore.errors import ConfigError
from mlcore.options import Command, python_options

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlcore.deployment.map_folder import MapFolder
    from mlcore.deployment.model_folder import DeployedModel, ModelInfo
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.retrieval.confidence import Confidence
    from mlcore.retrieval.reranking import Reranking
    from mlcore.retrieval.whitening import Whitening

StrPath = str | os.PathLike[str]


def several(paths: StrPath | Sequence[StrPath]) -> Sequence[StrPath]:
    """Return one path, or a sequence of them, as a sequence."""
    return (paths,) if isinstance(paths, str | os.PathLike) else paths


def load_run(path: StrPath, *, block: Sequence[str] = (), **options: Any) -> TrainedModel:
    """Open the model of a run or of a map, without its training data.

    Args:
        path: A run folder, a map of ``mlcore index``, or a copy of either's ``model/``.
        block: Plugins not to load.
        options: ``training={"accelerator": "cpu", "num_workers": 2}`` and
            ``evaluation={"batch_size": 16}``; no others apply to a finished model.

    Raises:
        DataError: There is no model at ``path``, or a file of it is damaged.
        ConfigError: The network's plugin is not installed, or an option does not apply.
    """
    from mlcore.cli.model_arguments import open_model

    changes = python_options(options)
    command = Command("mlcore.load_run")
    return TrainedModel(Path(path), open_model(Path(path), changes, block, command))


class TrainedModel:
    """A trained network with its preprocessing and whitening: what :func:`load_run` returns.

    Args:
        path: What was opened.
        model: Its content.

    Attributes:
        path: The run, map or model folder.
    """

    def __init__(self, path: Path, model: DeployedModel) -> None:
        self.path = path
        self._model = model
        self._maps: dict[Path, MapFolder] = {}

    @property
    def model(self) -> EmbeddingModel:
        """The network, in evaluation mode: uint8 ``(B, 3, H, W)`` to ``(B, D)``."""
        return self._model.network

    @property
    def whitening(self) -> Whitening | None:
        """What the evaluation whitened embeddings with; None for none."""
        return self._model.whitening

    @property
    def confidence(self) -> Confidence | None:
        """When answers can be trusted; None for a run without validation queries."""
        return self._model.confidence

    @property
    def info(self) -> ModelInfo:
        """Where the model comes from: run, step, options, input size, versions, hashes."""
        return self._model.info

    def embed(self, images: Any, *, whiten: bool = True) -> NDArray[np.float32]:
        """Return the embeddings of images, ``(N, K)`` float32, in the order given.

        They are letterboxed and whitened as in the evaluation of the run, to be compared by
        Euclidean distance.

        Args:
            images: The path of an image file, or of a folder: all images below it, in the order
                of their paths; a Pillow image; a uint8 NumPy array ``(H, W, 3)`` or
                ``(N, H, W, 3)``, RGB; a uint8 tensor ``(3, H, W)`` or ``(N, 3, H, W)``; or any
                iterable of these.
            whiten: False: the network's own, ``(N, D)``.

        Raises:
            DataError: An image cannot be read, or is of another type or shape.
        """
        import numpy as np

        from mlcore.deployment.images import image_list

        source = image_list(images)
        found = self._model.embedder()(source, np.arange(len(source)))
        if len(found.skipped):
            from mlcore.cli import console

            console.notes([f"skipped, unreadable: {name}" for name in found.skipped])
        return self._model.whiten(found.embeddings) if whiten else found.embeddings

    def localize(
        self,
        images: Any,
        maps: StrPath | Sequence[StrPath] | None = None,
        *,
        top: int = 5,
        reranker: str | Mapping[str, Any] | None = None,
        rerank: int = 10,
    ) -> Matches:
        """Return the most similar references of each image, over all maps, nearest first.

        Args:
            images: As for :meth:`embed`.
            maps: Folders of maps of this model; by default the one that was opened.
            top: References per image.
            reranker: Compares the images of unsure answers with their first references: its
                name, or ``{"name": ..., option: value}``. The maps must have thumbnails.
            rerank: References per image that it compares.

        Raises:
            ConfigError: ``top`` or ``rerank`` is less than 1, no map is given, or there is no
                such reranker.
            DataError: An image cannot be read; a map is damaged, empty or of another model.
        """
        from mlcore.deployment.images import image_list
        from mlcore.deployment.localization import localize_in_maps

        for name, number in (("top", top), ("rerank", rerank)):
            if number < 1:
                raise ConfigError(f"{name} must be at least 1, got {number}")
        source = image_list(images)
        reranking = None if reranker is None else _reranking(reranker, rerank)
        found = localize_in_maps(
            source, self._open(maps), self._model, top, reranking=reranking
        )
        names = [source.image_name(number) for number in range(len(source))]
        return Matches(names, found)

    def _open(self, maps: StrPath | Sequence[StrPath] | None) -> list[MapFolder]:
        from mlcore.deployment.map_folder import MapFolder, is_map

        if maps is None and not is_map(self.path):
            raise ConfigError(
                f"localize needs maps=...; 'mlcore index {self.path} --images DIR --out MAP' "
                "makes one"
            )
        for path in map(Path, several(self.path if maps is None else maps)):
            if path not in self._maps:
                folder = MapFolder.open(path)
                folder.require_model(self.info.identity, str(self.path))
                self._maps[path] = folder
        return [self._maps[Path(path)] for path in several(maps or self.path)]

    def __repr__(self) -> str:
        info = self.info
        height, width = info.input_size
        network = info.options["model"]["name"]
        step = info.step if info.best_step is None else info.best_step
        return (
            f"<TrainedModel {self.path}: {network} at {height} x {width} px, "
            f"{info.dimensions} dimensions, whitening {info.whitening}, step {step}>"
        )


def _reranking(reranker: str | Mapping[str, Any], num_compared: int) -> Reranking:
    from mlcore.factories import RerankerFactory
    from mlcore.options.single import choose_single
    from mlcore.registry.discovery import Registry
    from mlcore.retrieval.reranking import Reranking

    options = {"name": reranker} if isinstance(reranker, str) else dict(reranker)
    name = str(options.pop("name", ""))
    given = python_options({"reranker": options})
    chosen, _ = choose_single(RerankerFactory, name, given, Registry.discover())
    assert chosen is not None  # it has a name
    return Reranking.of(chosen, num_compared)
