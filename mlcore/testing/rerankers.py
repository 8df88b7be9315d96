"""Checks of rerankers: scores of pairs of images."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.factories import BuildContext
from mlcore.protocols import Reranker
from mlcore.testing.check import expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace

_SIZES_PX = ((120, 160), (97, 131), (160, 120))
_NUM_PATCHES = 250


def reranker_of(subject: Subject) -> Reranker:
    """Build a reranker with its default options."""
    built: Reranker = subject.factory.build(subject.factory.config(), BuildContext())
    return built


def scene(seed: int, size: tuple[int, int] = _SIZES_PX[0]) -> Tensor:
    """Return an image with much detail: overlapping rectangles of random colours."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.zeros((3, height, width), dtype=np.uint8)
    for _ in range(_NUM_PATCHES):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        rows, columns = rng.integers(3, 16, 2)
        colour = rng.integers(0, 256, (3, 1, 1))
        image[:, top : top + rows, left : left + columns] = colour
    return torch.from_numpy(image)


def scores(subject: Subject) -> None:
    """Scores are finite, at least 0, one for each reference; none for none."""
    reranker, query = reranker_of(subject), scene(0)
    expect(np.isfinite(reranker.verified_score), "a finite verified_score", "another")
    for count in (0, 1, len(_SIZES_PX)):
        references = [scene(seed, size) for seed, size in enumerate(_SIZES_PX[:count])]
        found = _scores(reranker, query, references)
        expect(found.shape == (count,), f"scores of shape ({count},)", found.shape)
        ok = bool(np.isfinite(found).all() and (found >= 0).all())
        expect(ok, "finite scores of at least 0", found)


def same_image(subject: Subject) -> None:
    """An image of much detail is verified against itself, and scores above another scene."""
    reranker, query = reranker_of(subject), scene(0)
    itself, other = _scores(reranker, query, [query, scene(1)])
    needed = reranker.verified_score
    expect(itself >= needed, f"a score of at least {needed:g} with itself", itself)
    expect(other < itself, "a smaller score with another scene", other)


def other_scene(subject: Subject) -> None:
    """No other scene is verified."""
    reranker, query = reranker_of(subject), scene(0)
    found = _scores(reranker, query, [scene(seed) for seed in range(1, 9)])
    needed = reranker.verified_score
    expect((found < needed).all(), f"scores below {needed:g} with other scenes", found)


def no_detail(subject: Subject) -> None:
    """Images of one colour, and of one pixel, score 0."""
    reranker = reranker_of(subject)
    plain = torch.full((3, 48, 64), 128, dtype=torch.uint8)
    images = [plain, torch.zeros((3, 1, 1), dtype=torch.uint8), scene(0)]
    found = _scores(reranker, plain, images)
    expect((found == 0).all(), "scores of 0 with an image of one colour", found)


def pairs_alone(subject: Subject) -> None:
    """A pair's score does not depend on the other references, or on earlier calls."""
    reranker, query = reranker_of(subject), scene(0)
    references = [scene(0), scene(1), scene(2)]
    together = _scores(reranker, query, references)
    alone = [float(_scores(reranker, query, [one])[0]) for one in references]
    expect(np.array_equal(together, alone), f"{together.tolist()} one by one", alone)


def inputs_unmodified(subject: Subject) -> None:
    """Images are left as they were."""
    query, reference = scene(0), scene(1)
    reranker_of(subject)(query, [reference])
    same = torch.equal(query, scene(0)) and torch.equal(reference, scene(1))
    expect(same, "images as they were", "others")


def picklable(subject: Subject) -> None:
    """A copy in another process gives the same scores."""
    reranker, query, references = reranker_of(subject), scene(0), [scene(0), scene(1)]
    copied = pickle.loads(pickle.dumps(reranker))  # noqa: S301 - what was just written
    found, again = (_scores(each, query, references) for each in (reranker, copied))
    expect(np.array_equal(found, again), f"{found.tolist()} of an unpickled copy", again)


def _scores(reranker: Reranker, query: Tensor, references: list[Tensor]) -> NDArray[np.float64]:
    # Of copies, so that a reranker that changes images fails the check of that alone.
    copies = [image.clone() for image in references]
    return np.asarray(reranker(query.clone(), copies), dtype=np.float64)


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    reranker, query, references = reranker_of(subject), scene(0), [scene(1)]
    return reranker, lambda: reranker(query, references)


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "scores": scores,
    "same-image": same_image,
    "other-scene": other_scene,
    "no-detail": no_detail,
    "pairs-alone": pairs_alone,
    "inputs-unmodified": inputs_unmodified,
    "picklable": picklable,
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
}
