"""SIFT verification: the same scene from elsewhere is verified, another one is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlcore.errors import PluginError
from mlcore.factories import RerankerFactory
from mlcore.options.config import Chosen
from mlcore.retrieval.confidence import Answer
from mlcore.retrieval.reranking import Reranking
from mlcore.testing import checks
from mlcore.testing.rerankers import scene

cv2 = pytest.importorskip("cv2")

from mlcore_verification.config import SiftConfig  # noqa: E402
from mlcore_verification.sift import SiftReranker  # noqa: E402


@pytest.mark.parametrize("check", checks("verification"), ids=str)
def test_conformance(check):
    check()


def seen_from_elsewhere(image: torch.Tensor) -> torch.Tensor:
    """Return the image by a homography, as a camera that has moved and turned sees a wall."""
    corners = np.array([[0, 0], [160, 0], [160, 120], [0, 120]], np.float32)
    moved = np.array([[12, 9], [150, 2], [146, 112], [4, 104]], np.float32)
    homography = cv2.getPerspectiveTransform(corners, moved)
    warped = cv2.warpPerspective(image.permute(1, 2, 0).numpy(), homography, (160, 120))
    return torch.from_numpy(warped).permute(2, 0, 1)


def test_the_same_wall_from_elsewhere():
    sift = SiftReranker(SiftConfig())
    same, other = sift(scene(0), [seen_from_elsewhere(scene(0)), scene(1)])
    assert same > sift.verified_score > other


def test_options_decide_what_matches():
    query, reference = scene(0), [seen_from_elsewhere(scene(0))]
    (usual,) = SiftReranker(SiftConfig())(query, reference)
    for options in (
        {"max_features": 30},
        {"ratio": 0.3},
        {"tolerance_px": 0.2},
        {"longest_side_px": 64},
    ):
        (fewer,) = SiftReranker(SiftConfig(**options))(query, reference)
        assert fewer < usual, options
    assert SiftReranker(SiftConfig(min_inliers=40)).verified_score == 40


class Scores:
    verified_score = 10.0

    def __init__(self, *scores):
        self.scores = scores

    def __call__(self, query, references):
        if self.scores and isinstance(self.scores[0], Exception):
            raise self.scores[0]
        return np.array(self.scores[: len(references)], dtype=float)


def reranking(reranker, num_compared=3) -> Reranking:
    factory = RerankerFactory(
        name="mine", summary="mine", config=SiftConfig, build=lambda _o, _c: reranker
    )
    chosen = Chosen(name="mine", factory=factory, options=SiftConfig())
    return Reranking.of(chosen, num_compared)


UNSURE = Answer(confidence="unsure", reason="far")
IMAGE = torch.zeros((3, 8, 8), dtype=torch.uint8)


def test_verified_references_come_first_and_the_rest_keeps_its_order():
    ranked, answer = reranking(Scores(0, 12, 0))("abcd", UNSURE, IMAGE, lambda _: IMAGE)
    assert "".join(ranked) == "bacd"
    assert str(answer) == "verified: mine score 12 of 10"


def test_without_a_verified_reference_the_order_stays():
    ranked, answer = reranking(Scores(0, 9, 0))("abcd", UNSURE, IMAGE, lambda _: IMAGE)
    assert "".join(ranked) == "abcd"
    assert str(answer) == "unsure: far; mine verified no reference (best 9 of 10)"


def test_a_sure_answer_is_not_compared():
    sure = Answer(confidence="sure")
    again = reranking(Scores(ValueError("not to be called")))("ab", sure, IMAGE, None)
    assert again == (["a", "b"], sure)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ((1, 2), r"'mine' must return 3 finite scores, got \[1\.0, 2\.0\]"),
        ((1, 2, np.nan), "must return 3 finite scores"),
        ((ValueError("no memory"),), "'mine' could not compare images: ValueError: no memory"),
    ],
)
def test_a_broken_reranker_is_named(scores, message):
    with pytest.raises(PluginError, match=message):
        reranking(Scores(*scores))("abc", UNSURE, IMAGE, lambda _: IMAGE)
