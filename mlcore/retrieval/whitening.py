"""PCA whitening of embeddings.

Shapes: ``n`` embeddings fitted on, ``D`` dimensions before and ``K`` after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError

IMAGES_PER_DIMENSION = 4
"""Fewer make the small variances, which whitening divides by, mostly noise."""
_CHUNK_ROWS = 4096
_SMALLEST_VARIANCE_RATIO = 1e-10


@dataclass(frozen=True, kw_only=True)
class Whitening:
    """An affine map to uncorrelated dimensions of unit variance, by decreasing variance.

    Attributes:
        mean: ``(D,)`` float64.
        components: ``(K, D)`` float64, orthonormal rows.
        deviation: ``(K,)`` float64, standard deviation along each component.
        source: The images it was fitted on: "train" or "references".
        num_images: ``n``.
    """

    mean: NDArray[np.float64]
    components: NDArray[np.float64]
    deviation: NDArray[np.float64]
    source: str
    num_images: int

    @property
    def dimensions(self) -> int:
        """``K``."""
        return len(self.deviation)

    def __call__(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map ``(N, D)`` to ``(N, K)`` float32, computed in float64; no normalisation."""
        if embeddings.shape[1] != len(self.mean):
            raise DataError(
                f"whitening was fitted on {len(self.mean)} dimensions, embeddings have "
                f"{embeddings.shape[1]}"
            )
        projection = self.components.T / self.deviation
        whitened = np.empty((len(embeddings), self.dimensions), dtype=np.float32)
        for start in range(0, len(embeddings), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            whitened[rows] = (embeddings[rows].astype(np.float64) - self.mean) @ projection
        return whitened

    def cut(self, dimensions: int) -> Whitening:
        """Return the whitening to the first ``min(dimensions, K)`` dimensions.

        Raises:
            ConfigError: ``dimensions`` is less than 1.
        """
        if dimensions < 1:
            raise ConfigError(f"whitening must keep at least 1 dimension, got {dimensions}")
        return replace(
            self,
            components=self.components[:dimensions],
            deviation=self.deviation[:dimensions],
        )

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for an ``.npz`` file that needs no pickle."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Whitening:
        """Return the whitening that :meth:`to_arrays` returned arrays of.

        Raises:
            KeyError: An array is missing.
        """
        return cls(
            mean=arrays["mean"],
            components=arrays["components"],
            deviation=arrays["deviation"],
            source=str(arrays["source"]),
            num_images=int(arrays["num_images"]),
        )


def fit_whitening(
    embeddings: NDArray[np.float32], dimensions: int, *, source: str
) -> Whitening:
    """Fit PCA whitening to ``embeddings`` ``(n, D)``, in float64.

    Keeps ``min(dimensions, D, n / 4)`` dimensions, at least one, and of these only those
    that vary: a variance below 1e-10 of the largest is rounding error, which whitening would
    scale up to the size of the signal.

    Raises:
        DataError: There are fewer than two embeddings, or all are the same.
        ConfigError: ``dimensions`` is less than 1.
    """
    num_images, num_before = embeddings.shape
    if num_images < 2:
        raise DataError(
            f"whitening must be fitted on at least 2 images, got {num_images}; "
            "use --evaluation.whitening none"
        )
    mean = embeddings.mean(axis=0, dtype=np.float64)
    centred = embeddings.astype(np.float64) - mean
    variance, components = _principal_components(centred)
    rounding = 1e-12 * float(np.square(mean).sum())  # of embeddings in float32
    varies = variance > max(_SMALLEST_VARIANCE_RATIO * variance[0], rounding)
    if not varies.any():
        raise DataError(
            f"all {num_images} embeddings that whitening is fitted on are identical: the "
            "network has collapsed; --evaluation.whitening none evaluates it regardless"
        )
    whitening = Whitening(
        mean=mean,
        components=components[varies],
        deviation=np.sqrt(variance[varies]),
        source=source,
        num_images=num_images,
    )
    return whitening.cut(
        min(dimensions, num_before, max(1, num_images // IMAGES_PER_DIMENSION))
    )


def _principal_components(
    centred: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances, descending, and unit directions as rows, of centred ``(n, D)``.

    scikit-learn's PCA, exact: through the covariance while that is the smaller matrix, else
    by SVD, for NetVLAD has many more dimensions than there are images. Each direction's
    largest entry is positive, so that every machine gives the same.
    """
    from sklearn.decomposition import PCA

    num_images, num_dimensions = centred.shape
    solver = "covariance_eigh" if num_dimensions <= num_images else "full"
    with np.errstate(invalid="ignore"):  # 0 / 0 in a ratio of no use here, if all are equal
        fitted = PCA(svd_solver=solver).fit(centred)
    return fitted.explained_variance_, fitted.components_
