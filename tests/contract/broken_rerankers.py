"""A reranker that is right, and faults beside the checks they fail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch.nn.functional import interpolate

from mlcore import RerankerFactory


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


class Correlation:
    """Right in every respect: the correlation of shrunk images."""

    verified_score = 0.9

    def __call__(self, query, references):
        asked = self.vector(query)
        found = [max(0.0, float(asked @ self.vector(image))) for image in references]
        return np.array(found)

    def vector(self, image):
        grey = image.double().mean(dim=0)[None, None]
        values = interpolate(grey, (24, 24), mode="area").flatten()
        values = values - values.mean()
        return values / values.norm().clamp(min=1e-6)


class OneScore(Correlation):
    def __call__(self, query, references):
        return super().__call__(query, references)[:1]


class NeverVerifies(Correlation):
    verified_score = 2.0


class VerifiesAll(Correlation):
    verified_score = 0.0


class ScoresNothing(Correlation):
    def __call__(self, query, references):
        return super().__call__(query, references) + 0.05


class AgainstTheOthers(Correlation):
    def __call__(self, query, references):
        found = super().__call__(query, references)
        return found * 0.5 if len(found) > 2 else found


class ChangesImages(Correlation):
    def __call__(self, query, references):
        found = super().__call__(query, references)
        query.zero_()
        return found


class CannotBePickled(Correlation):
    def __init__(self):
        self.shrink = lambda image: image


def reranker_factory(kind=Correlation, **changes):
    declared = {
        "name": "mine",
        "summary": "a reranker",
        "config": NoOptions,
        "build": lambda _options, _context: kind(),
    }
    return RerankerFactory(**(declared | changes))


RERANKERS = {
    "one score for all": (reranker_factory(OneScore), {"scores"}),
    "never verifies": (reranker_factory(NeverVerifies), {"same-image"}),
    "verifies every scene": (reranker_factory(VerifiesAll), {"other-scene"}),
    "scores images without detail": (reranker_factory(ScoresNothing), {"no-detail"}),
    "scores depend on the others": (reranker_factory(AgainstTheOthers), {"pairs-alone"}),
    "changes the query": (reranker_factory(ChangesImages), {"inputs-unmodified"}),
    "reranker without pickling": (reranker_factory(CannotBePickled), {"picklable"}),
}
