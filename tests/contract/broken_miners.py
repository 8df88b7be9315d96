"""A miner that is right, and faults beside the checks that they fail."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from mlcore import MinerFactory, Pairs, Triplets
from mlcore.geometry import NearFar


@dataclass(frozen=True, kw_only=True)
class Config:
    """No options."""


class AllPairs:
    """Right in every respect: every near and every far pair."""

    def __init__(self, config, context):
        self.relation = NearFar.resolve(context)

    def __call__(self, embeddings, batch):
        near, far = self.relation(batch)
        return Pairs(*self.indices(near), *self.indices(far))

    def indices(self, mask):
        return mask.nonzero().T


def miner_factory(build=AllPairs, **changes):
    declared = {
        "name": "all-pairs",
        "summary": "every near and every far pair",
        "config": Config,
        "build": build,
        "produces": Pairs,
    }
    return MinerFactory(**(declared | changes))


class Int32(AllPairs):
    def indices(self, mask):
        return mask.nonzero().T.int()


class Nothing(AllPairs):
    def indices(self, mask):
        return (mask & False).nonzero().T


class PastTheEnd(AllPairs):
    def indices(self, mask):
        rows, columns = mask.nonzero().T
        return rows, torch.where(columns == 0, len(mask), columns)


class ItselfToo(AllPairs):
    def indices(self, mask):
        near = mask.clone()
        near.fill_diagonal_(not mask[0, -1])  # the mask of near pairs
        return near.nonzero().T


class BandIsNegative(AllPairs):
    def __call__(self, embeddings, batch):
        near, _ = self.relation(batch)
        far = (~near).fill_diagonal_(False)
        return Pairs(*near.nonzero().T, *far.nonzero().T)


class InclusiveFar(AllPairs):
    def __call__(self, embeddings, batch):
        near, _ = self.relation(batch)
        difference = batch.positions_m[:, None] - batch.positions_m[None]
        far = difference.norm(dim=-1) >= self.relation.far_radius_m
        return Pairs(*near.nonzero().T, *far.nonzero().T)


class Counts(AllPairs):
    calls = 0

    def indices(self, mask):
        self.calls += 1
        return mask.nonzero().T[:, self.calls // 4 :]


class GlobalGenerator(AllPairs):
    def indices(self, mask):
        rows, columns = mask.nonzero().T
        keep = torch.randperm(len(rows))[: max(1, len(rows) // 2)]
        return rows[keep], columns[keep]


class Normalises(AllPairs):
    def __call__(self, embeddings, batch):
        embeddings.mul_(2)
        return super().__call__(embeddings, batch)


class ThreeNearest(AllPairs):
    def __call__(self, embeddings, batch):
        (embeddings @ embeddings.T).topk(3)
        return super().__call__(embeddings, batch)


class IgnoresRegions(AllPairs):
    def __call__(self, embeddings, batch):
        return super().__call__(embeddings, replace(batch, region=None))


class IgnoresHeadings(AllPairs):
    def __call__(self, embeddings, batch):
        return super().__call__(embeddings, replace(batch, headings_rad=None))


class FirstTuples(AllPairs):
    found = None

    def __call__(self, embeddings, batch):
        self.found = self.found or super().__call__(embeddings, batch)
        return self.found


class EqualTuples(AllPairs):
    def __call__(self, embeddings, batch):
        batch.role.view(int(batch.tuple_id.max()) + 1, -1)
        return super().__call__(embeddings, batch)


class Prints(AllPairs):
    def __call__(self, embeddings, batch):
        print(len(batch))  # noqa: T201 - what is to be found
        return super().__call__(embeddings, batch)


MINERS = {
    "pairs across regions": (miner_factory(IgnoresRegions), {"roles-right"}),
    "pairs that look opposite ways": (miner_factory(IgnoresHeadings), {"roles-right"}),
    "keeps the first tuples": (miner_factory(FirstTuples), {"seed"}),
    "tuples of one size taken for granted": (miner_factory(EqualTuples), {"short-tuples"}),
    "prints": (miner_factory(Prints), {"leaves-no-trace"}),
    "int32 indices": (miner_factory(Int32), {"form"}),
    "another form than declared": (miner_factory(produces=Triplets), {"form"}),
    "nothing ever": (miner_factory(Nothing), {"form"}),
    "rows past the end": (miner_factory(PastTheEnd), {"indices-valid"}),
    "the band is negative": (miner_factory(BandIsNegative), {"roles-right"}),
    "an image with itself": (miner_factory(ItselfToo), {"indices-valid"}),
    "far from the radius on": (miner_factory(InclusiveFar), {"near-thresholds"}),
    "counts its calls": (miner_factory(Counts), {"seed"}),
    "draws from the global generator": (miner_factory(GlobalGenerator), {"seed"}),
    "changes the embeddings": (miner_factory(Normalises), {"inputs-unmodified"}),
    "wants three images": (miner_factory(ThreeNearest), {"one-row", "neither"}),
}
