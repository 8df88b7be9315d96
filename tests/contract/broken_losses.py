"""A loss that is right, and what authors get wrong: each fault beside the checks it fails."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from mlcore import LossFactory, LossOutput
from mlcore.geometry import between_m


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the loss.

    Attributes:
        radius_m: Pairs nearer than this (metres) are pulled together.
    """

    radius_m: float = 10.0


class Pull(torch.nn.Module):
    """Right in every respect: near pairs pull, other pairs push."""

    def __init__(self, config, context):
        super().__init__()
        self.radius_m = config.radius_m

    def forward(self, embeddings, batch, tuples=None):
        near = self.near(batch).to(embeddings.dtype)
        near.fill_diagonal_(0)
        cost = self.cost(embeddings) * (2 * near - 1)
        return self.output(cost, near)

    def near(self, batch):
        return self.distance(batch) < self.radius_m

    def distance(self, batch):
        difference = batch.positions_m[:, None] - batch.positions_m[None]
        return difference.norm(dim=-1) if batch.region is None else between_m(batch)

    def cost(self, embeddings):
        return (embeddings[:, None] - embeddings[None]).square().sum(dim=-1)

    def output(self, cost, near):
        return LossOutput(cost.mean(), {"num_near": near.sum()})


def loss_factory(build=Pull, **changes):
    declared = {
        "name": "pull",
        "summary": "near pairs pull, others push",
        "config": Config,
        "build": build,
        "needs": frozenset({"positions"}),
    }
    return LossFactory(**(declared | changes))


class Vector(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean(dim=1))


class BareTensor(Pull):
    def output(self, cost, near):
        return cost.mean()


class AttachedStats(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean(), {"largest": cost.max()})


class LearnsNothing(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean() * 0)


class IdleParameter(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.scale = torch.nn.Parameter(torch.ones(()))


class DetachedWeights(Pull):
    def output(self, cost, near):
        return LossOutput((cost.detach().abs() * cost).mean())


class OrderOfRows(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean() + cost[:-1, 1:].diagonal().mean().nan_to_num())


class Float32Positions(Pull):
    def near(self, batch):
        return torch.exp(-between_m(replace(batch, positions_m=batch.positions_m.float())) / 10)


class OneRegion(Pull):
    def distance(self, batch):
        return (batch.positions_m[:, None] - batch.positions_m[None]).norm(dim=-1)


class ReadsPlaces(Pull):
    def near(self, batch):
        return super().near(batch) | (batch.place_id[:, None] == batch.place_id[None])


class MixesPrecisions(Pull):
    def cost(self, embeddings):
        similarity = embeddings @ embeddings.T
        rows = torch.arange(len(embeddings))
        return 1 - torch.zeros_like(embeddings[:, :1] @ embeddings[:, :1].T).to(
            embeddings.dtype
        ).index_add_(0, rows, similarity)


class ChangesHeadings(Pull):
    def near(self, batch):
        if batch.headings_rad is not None:
            batch.headings_rad.abs_()
        return super().near(batch)


class TurnedRound(Pull):
    def output(self, cost, near):
        return LossOutput(-cost.mean())


class PullsAll(Pull):
    def forward(self, embeddings, batch, tuples=None):
        return LossOutput(self.cost(embeddings).mean())


class Detached(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean().detach())


class RandomWeight(Pull):
    def output(self, cost, near):
        return LossOutput(cost.mean() * (1 + torch.rand(())))


class Float32Easting(Pull):
    """Wrong by up to 16 mm at the eastings of UTM."""

    def distance(self, batch):
        positions_m = batch.positions_m.clone()
        positions_m[:, 0] = positions_m[:, 0].float().double()
        return (positions_m[:, None] - positions_m[None]).norm(dim=-1)


class CentredOnMean(Pull):
    """What is left of a position minus the mean is rounded, so 15 m are within 15 m or not."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.radius_m = 15.0

    def distance(self, batch):
        centred_m = batch.positions_m - batch.positions_m.mean(dim=0)
        return (centred_m[:, None] - centred_m[None]).norm(dim=-1)


class ReadsInfluence(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.radius_m = 0.6 * context.influence.support_m


class RunningMean(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.calls = 0

    def output(self, cost, near):
        self.calls += 1
        return LossOutput(cost.mean() * (1 + 0.1 * min(self.calls - 1, 1)))


class GlobalGenerator(Pull):
    def __init__(self, config, context):
        super().__init__(config, context)
        self.scale = torch.rand(()).item() + 0.5

    def output(self, cost, near):
        return LossOutput(cost.mean() * self.scale)


class WrongShares(Pull):
    def forward_rows(self, embeddings, batch, rows):
        return LossOutput(self(embeddings, batch).loss / 2)


class EachTheWhole(Pull):
    def forward_shared(self, embeddings, batch, group):
        group.add_up(embeddings)
        return self(embeddings, batch)  # and so its whole gradient, from every process


class NobodyAnswers(Pull):
    def forward_shared(self, embeddings, batch, group):
        if group.rank:
            return self(embeddings, batch)
        group.add_up(embeddings)  # the others do not
        return self(embeddings, batch)


class MeanOfNear(Pull):
    def output(self, cost, near):
        return LossOutput(cost[near > 0].mean() - 0.1 * cost.mean())


class MeanOfFar(Pull):
    def forward(self, embeddings, batch, tuples=None):
        loss, stats = super().forward(embeddings, batch)
        far = self.distance(batch) > 25
        more = 0.1 * self.cost(embeddings)[far].max() if len(embeddings) > 2 else 0
        return LossOutput(loss + more, stats)


class Deviation(Pull):
    def cost(self, embeddings):
        return super().cost(embeddings) / (1 + embeddings.std(dim=0).sum())


class SquareRoot(Pull):
    def forward(self, embeddings, batch, tuples=None):
        pairs = ~torch.eye(len(embeddings), dtype=torch.bool)
        sign = 2 * self.near(batch)[pairs].to(embeddings.dtype) - 1
        root = self.cost(embeddings)[pairs].sqrt()
        return LossOutput((sign * root).sum() / max(len(embeddings), 1))


class OwnNormalisation(Pull):
    def cost(self, embeddings):
        return super().cost(embeddings / embeddings.norm(dim=1, keepdim=True))


class LogOfCosine(Pull):
    def cost(self, embeddings):
        return -torch.log((1 + embeddings @ embeddings.T) / 2)

    def output(self, cost, near):
        return LossOutput((cost * near).sum())


class PerMetre(Pull):
    def cost(self, embeddings):
        return super().cost(embeddings) + embeddings.sum() * 0

    def forward(self, embeddings, batch, tuples=None):
        distance = self.distance(batch).to(embeddings.dtype)
        distance.fill_diagonal_(1)
        return LossOutput((self.cost(embeddings) / distance).mean())


class NeedsHeadings(Pull):
    def near(self, batch):
        turn = batch.headings_rad[:, None] - batch.headings_rad[None]
        return super().near(batch) & (turn.cos() > 0)


class FlatPositions(Pull):
    def distance(self, batch):
        if batch.region is not None:
            return super().distance(batch)
        easting, northing = batch.positions_m.T
        return torch.hypot(easting[:, None] - easting[None], northing[:, None] - northing[None])


@dataclass(frozen=True, kw_only=True)
class Untold:
    """Options."""

    radius_m: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Doubling:
    """Options of the loss.

    Attributes:
        radius_m: Pairs nearer than this (metres) are pulled together.
    """

    radius_m: float = 5.0

    def __post_init__(self):
        object.__setattr__(self, "radius_m", 2 * self.radius_m)


NO_POSITIVE = {"one-row", "no-positive", "neither"}

LOSSES = {
    "a value for each image": (loss_factory(Vector), {"scalar"}),
    "no LossOutput": (loss_factory(BareTensor), {"scalar"}),
    "stats with a graph": (loss_factory(AttachedStats), {"scalar"}),
    "always zero": (loss_factory(LearnsNothing), {"gradient"}),
    "a parameter that is not used": (loss_factory(IdleParameter), {"gradient"}),
    "weights held constant": (loss_factory(DetachedWeights), {"gradcheck"}),
    "compares neighbouring rows": (loss_factory(OrderOfRows), {"permutation"}),
    "float32 positions": (loss_factory(Float32Positions), {"translation"}),
    "regions of one frame": (loss_factory(OneRegion), {"regions"}),
    "labels not declared": (loss_factory(ReadsPlaces), {"declares-needs"}),
    "two dtypes under autocast": (loss_factory(MixesPrecisions), {"autocast"}),
    "changes the batch": (loss_factory(ChangesHeadings), {"inputs-unmodified"}),
    "keeps statistics": (loss_factory(RunningMean), {"repeatable"}),
    "random at every call": (loss_factory(RandomWeight), {"repeatable"}),
    "random at every call, declared": (
        loss_factory(RandomWeight, limits={"repeatable": "weighted at random"}),
        set(),
    ),
    "no graph": (loss_factory(Detached), {"gradient"}),
    "a sign turned round": (loss_factory(TurnedRound), {"learns"}),
    "everything together": (loss_factory(PullsAll, needs=frozenset()), {"learns"}),
    "float32 eastings": (loss_factory(Float32Easting), {"near-thresholds", "regions"}),
    "distances of rounded positions": (
        loss_factory(CentredOnMean),
        {"near-thresholds", "regions"},
    ),
    "influence not declared": (loss_factory(ReadsInfluence), {"declares-needs"}),
    "influence declared, not read": (loss_factory(uses_influence=True), {"needs-used"}),
    "labels declared, not read": (
        loss_factory(needs=frozenset({"positions", "labels"})),
        {"needs-used"},
    ),
    "other-far declared, not read": (
        loss_factory(needs=frozenset({"positions", "other-far"})),
        {"needs-used"},
    ),
    "weights of the global generator": (loss_factory(GlobalGenerator), {"reproducible"}),
    "shares that do not add up": (loss_factory(WrongShares), {"rows-add-up"}),
    "whole gradients that are added up": (loss_factory(EachTheWhole), {"shared-adds-up"}),
    "a collective that others skip": (loss_factory(NobodyAnswers), {"shared-adds-up"}),
    "quadratic, declared linear": (loss_factory(memory="linear"), {"memory"}),
    "quadratic, declared cubic": (loss_factory(memory="cubic"), {"memory"}),
    "deviation of one row": (loss_factory(Deviation), {"one-row"}),
    "mean of no pairs": (loss_factory(MeanOfNear), NO_POSITIVE),
    "maximum of no pairs": (loss_factory(MeanOfFar), {"no-negative", "coincident-positions"}),
    "root of zero": (loss_factory(SquareRoot), {"duplicate-embeddings", "zero-embeddings"}),
    "division by no length": (loss_factory(OwnNormalisation), {"zero-embeddings"}),
    "logarithm of zero": (loss_factory(LogOfCosine), {"opposite-embeddings"}),
    "division by no metres": (loss_factory(PerMetre), {"coincident-positions"}),
    "headings taken for granted": (loss_factory(NeedsHeadings), {"no-headings"}),
    "two coordinates taken for granted": (loss_factory(FlatPositions), {"altitudes"}),
    "a limit that does not occur": (
        loss_factory(limits={"one-row": "raises for one image"}),
        {"one-row"},
    ),
    "a limit of no known name": (loss_factory(limits={"mondays": "fails"}), {"limits-known"}),
    "options not told": (loss_factory(config=Untold), {"described"}),
    "two lines of summary": (loss_factory(summary="near\npairs"), {"described"}),
    "options that change themselves": (loss_factory(config=Doubling), {"config-round-trip"}),
}
"""Each fault: the factory that has it, and the names of the checks that must fail."""
