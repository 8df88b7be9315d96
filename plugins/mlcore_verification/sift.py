"""Verifies that two photographs show one place: SIFT matches that fit a homography."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mlcore_verification.config import SiftConfig

if TYPE_CHECKING:
    from torch import Tensor

_FEWEST_MATCHES = 5
"""Four matches fit a homography exactly, whatever they are."""


class _Features(NamedTuple):
    """Features of an image.

    Attributes:
        points_px: ``(F, 2)`` float32, x and y.
        descriptors: ``(F, 128)`` float32; rows of unit length.
    """

    points_px: NDArray[np.float32]
    descriptors: NDArray[np.float32]


class SiftReranker:
    """Counts SIFT matches that agree with a homography.

    A homography is exact for a plane (a facade, the ground from above) and for a camera that
    turns; for other scenes it finds the plane with most matches. Descriptors are RootSIFT
    (Arandjelovic and Zisserman, CVPR 2012), and a match is nearest in both directions. Nothing
    is random: OpenCV's RANSAC starts from a fixed seed.

    Args:
        config: What counts as a match, and how many verify.
    """

    def __init__(self, config: SiftConfig) -> None:
        self._config = config
        self.verified_score = float(config.min_inliers)

    def __call__(self, query: Tensor, references: Sequence[Tensor]) -> NDArray[np.float64]:
        """Return the number of matches with each reference that agree, ``(k,)``.

        Args:
            query: uint8 ``(3, H, W)``, RGB.
            references: ``k`` images likewise, of any sizes.
        """
        asked = self._features(query)
        scores = [self._score(asked, self._features(image)) for image in references]
        return np.array(scores, dtype=np.float64)

    def _features(self, image: Tensor) -> _Features:
        grey = cv2.cvtColor(
            np.ascontiguousarray(image.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2GRAY
        )
        shrink = self._config.longest_side_px / max(grey.shape)
        if shrink < 1:
            size = [max(1, round(side * shrink)) for side in grey.shape[::-1]]
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        sift = cv2.SIFT_create(nfeatures=self._config.max_features)  # type: ignore[attr-defined]
        points, descriptors = sift.detectAndCompute(grey, None)
        if descriptors is None:
            nothing = np.empty((0, 2), np.float32)
            return _Features(nothing, np.empty((0, 128), np.float32))
        places = np.array([point.pt for point in points], dtype=np.float32)
        total = np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-12)
        return _Features(places, np.sqrt(descriptors / total).astype(np.float32))

    def _score(self, one: _Features, other: _Features) -> int:
        rows, columns = self._matches(one.descriptors, other.descriptors)
        if len(rows) < _FEWEST_MATCHES:
            return 0
        _, agrees = cv2.findHomography(
            one.points_px[rows],
            other.points_px[columns],
            cv2.RANSAC,
            self._config.tolerance_px,
        )
        return 0 if agrees is None else int(agrees.sum())

    def _matches(
        self, one: NDArray[np.float32], other: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return features of both that are nearest to each other and pass the ratio test."""
        if min(len(one), len(other)) < 2:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        # Rows have unit length, so that products give distances: |a - b|^2 = 2 - 2 ab.
        squared = np.maximum(0.0, 2.0 - 2.0 * (one @ other.T))
        nearest = squared.argmin(axis=1)
        first, second = np.partition(squared, 1, axis=1)[:, :2].T
        is_match = first < self._config.ratio**2 * second
        is_match &= squared.argmin(axis=0)[nearest] == np.arange(len(one))
        rows = np.flatnonzero(is_match)
        return rows, nearest[rows]
