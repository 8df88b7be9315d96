"""When a localization can be trusted: thresholds that validation queries set.

An answer is sure if its nearest reference is near enough between embeddings, and clearly nearer
than the first reference elsewhere. Lowe's ratio test (IJCV 2004) does the same with features.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.files import atomic_write

SEARCHED = 50
"""References that are looked through for the first one elsewhere."""
PRECISION = 0.99
"""Share of the sure answers that must be right on validation."""
FILE = "confidence.json"
_MOST_RATIOS = 256
"""Thresholds on the ratio that are tried, each with the best threshold on the distance."""


class Found(Protocol):
    """A retrieved reference."""

    @property
    def embedding_distance(self) -> float: ...
    @property
    def position_m(self) -> tuple[float, ...] | None: ...
    @property
    def region(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether the first reference found for an image can be trusted.

    Attributes:
        confidence: "sure"; "unsure"; "verified" by a reranker; "unknown" without thresholds.
        reason: Why it is not "sure"; empty if it is.
    """

    confidence: Literal["sure", "unsure", "verified", "unknown"]
    reason: str = ""

    def __str__(self) -> str:
        """Return both as one phrase."""
        return f"{self.confidence}: {self.reason}" if self.reason else self.confidence


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Thresholds of an answer, and what they gave on validation.

    Attributes:
        distance: Largest embedding distance to the first reference.
        ratio: Largest ratio of that distance to the distance of the first reference elsewhere.
        distance_alone: Largest embedding distance where references have no positions.
        elsewhere_m: Farther from the first reference than this is elsewhere, and an answer is
            right within it (metres).
        num_queries: Validation queries.
        num_sure: Those that are sure.
        num_right: Those that are sure and right.
    """

    distance: float
    ratio: float
    distance_alone: float
    elsewhere_m: float
    num_queries: int
    num_sure: int
    num_right: int

    def answer(self, found: Sequence[Found]) -> Answer:
        """Return how sure an answer is, given the first ``SEARCHED`` references, nearest first.

        If all of them are in one place, the last stands for the first one elsewhere, which
        makes the ratio too large rather than too small.
        """
        if not found:
            return Answer(confidence="unsure", reason="no reference was found")
        distance = found[0].embedding_distance
        elsewhere = distance_elsewhere(found, self.elsewhere_m)
        most = self.distance_alone if elsewhere is None else self.distance
        if distance > most:
            return Answer(
                confidence="unsure",
                reason=f"the nearest reference is at an embedding distance of {distance:.3f}, "
                f"which is more than {most:.3f}",
            )
        if elsewhere is not None and (ratio := _ratio(distance, elsewhere)) > self.ratio:
            return Answer(
                confidence="unsure",
                reason=f"a reference more than {self.elsewhere_m:g} m away looks almost as "
                f"similar: the ratio of the distances is {ratio:.3f}, more than "
                f"{self.ratio:.3f}",
            )
        return Answer(confidence="sure")

    def __str__(self) -> str:
        """Return what the thresholds gave on validation, in words."""
        right = f", {self.num_right} of these right" if self.num_sure else ""
        return (
            f"of {self.num_queries} validation queries {self.num_sure} are sure{right} "
            f"(within {self.elsewhere_m:g} m)"
        )


UNKNOWN = Answer(
    confidence="unknown", reason="the model has no confidence thresholds from validation"
)


def distance_elsewhere(found: Sequence[Found], radius_m: float) -> float | None:
    """Return the embedding distance of the first reference away from the nearest one.

    Away is more than ``radius_m``, or another region. If none is, that of the last reference;
    None if the position of the nearest is not known.
    """
    here = found[0].position_m
    if here is None:
        return None
    for other in found[1:]:
        there = other.position_m
        if there is None:
            continue
        size = min(len(here), len(there))  # some references may have no altitude
        is_same = other.region == found[0].region
        if not is_same or math.dist(here[:size], there[:size]) > radius_m:
            return other.embedding_distance
    return found[-1].embedding_distance


def fit_confidence(
    distance: NDArray[np.float64],
    elsewhere: NDArray[np.float64],
    is_right: NDArray[np.bool_],
    elsewhere_m: float,
) -> Confidence:
    """Return the thresholds that keep most right answers at a precision of 99 %.

    Args:
        distance: ``(Q,)``, embedding distance of each query's first reference.
        elsewhere: ``(Q,)``, that of its first reference elsewhere.
        is_right: ``(Q,)``, whether the first reference is within ``elsewhere_m``.
        elsewhere_m: That distance.
    """
    ratio = np.array([_ratio(*pair) for pair in zip(distance, elsewhere, strict=True)])
    candidates = np.unique(ratio)
    step = max(1, math.ceil(len(candidates) / _MOST_RATIOS))
    # From the largest down, so that the loosest of equally good ratios is kept.
    best, best_ratio, best_distance = -1, 1.0, 0.0
    for most in candidates[::-1][::step]:
        kept = ratio <= most
        threshold, num_right = _threshold(distance[kept], is_right[kept])
        if num_right > best:
            best, best_ratio, best_distance = num_right, float(most), threshold
    is_sure = (distance <= best_distance) & (ratio <= best_ratio)
    return Confidence(
        distance=best_distance,
        ratio=best_ratio,
        distance_alone=_threshold(distance, is_right)[0],
        elsewhere_m=elsewhere_m,
        num_queries=len(distance),
        num_sure=int(is_sure.sum()),
        num_right=int((is_sure & is_right).sum()),
    )


def save_confidence(folder: Path, confidence: Confidence | None) -> None:
    """Write the thresholds into a model folder; remove them for None."""
    path = folder / FILE
    if confidence is None:
        path.unlink(missing_ok=True)
        return
    with atomic_write(path) as file:
        text = json.dumps(asdict(confidence), indent=1, allow_nan=False)
        file.write((text + "\n").encode())


def read_confidence(folder: Path) -> Confidence | None:
    """Read the thresholds of a model folder; None if it has none.

    Raises:
        DataError: The file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return Confidence(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error!r}") from error


def _threshold(distance: NDArray[np.float64], is_right: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the largest distance with the precision, and the right answers up to it.

    Equal distances are in or out together. 0 and 0 if no distance has the precision.
    """
    order = np.argsort(distance, kind="stable")
    distance, num_right = distance[order], np.cumsum(is_right[order])
    ends = np.flatnonzero(np.append(np.diff(distance) > 0, True)) if len(distance) else order
    precise = ends[num_right[ends] >= PRECISION * (ends + 1)]
    if not len(precise):
        return 0.0, 0
    return float(distance[precise[-1]]), int(num_right[precise[-1]])


def _ratio(distance: float, elsewhere: float) -> float:
    # Two references elsewhere that both equal the query say nothing about where it is.
    return float(distance / elsewhere) if elsewhere > 0 else 1.0
