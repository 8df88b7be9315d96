"""A backbone, a pooling and a model that are right, and faults beside the checks they fail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mlcore import BackboneFactory, Features, ModelFactory, PoolingFactory
from mlcore.models import Backbone, ColourNormalisation, EmbeddingModel, ModelConfig, Pooling


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


class Patches(Backbone):
    """Right in every respect: patches of 8 px and a block."""

    num_channels = 16

    def __init__(self):
        super().__init__()
        self.normalisation = ColourNormalisation()
        self.stem = nn.Conv2d(3, 16, 8, stride=8)
        self.block = nn.Conv2d(16, 16, 3, padding=1)

    @property
    def blocks(self):
        return [self.block]

    def forward(self, images):
        return Features(self.maps(self.normalisation(images)))

    def maps(self, images):
        return self.block(self.stem(images).relu())


class Mean(Pooling):
    """Right in every respect: a linear layer of the mean."""

    def __init__(self, num_channels):
        super().__init__()
        self.output_dim = 8
        self.linear = nn.Linear(num_channels, 8)

    def forward(self, features):
        return self.linear(self.mean(features.maps))

    def mean(self, maps):
        return maps.mean(dim=(2, 3))


class Whole(EmbeddingModel):
    """Right in every respect: one convolution and a mean."""

    embedding_dim = 8

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 8, 5, stride=4)

    def embed(self, images):
        return self.layer(self.scaled(images)).mean(dim=(2, 3))

    def scaled(self, images):
        return images.to(self.layer.weight.dtype) / 255


def backbone_factory(kind=Patches, **changes):
    declared = {
        "name": "patches",
        "summary": "patches and a convolution",
        "config": NoOptions,
        "build": lambda _, __: kind(),
    }
    return BackboneFactory(**(declared | changes))


def pooling_factory(kind=Mean, **changes):
    declared = {
        "name": "mean",
        "summary": "a linear layer of the mean",
        "config": NoOptions,
        "build": lambda _, context: kind(context.features.num_channels),
    }
    return PoolingFactory(**(declared | changes))


def model_factory(kind=Whole, **changes):
    declared = {
        "name": "whole",
        "summary": "a convolution and its mean",
        "config": ModelConfig,
        "build": lambda _, __: kind(),
    }
    return ModelFactory(**(declared | changes))


class BareMaps(Patches):
    def forward(self, images):
        return super().forward(images).maps


class WrongChannels(Patches):
    num_channels = 32


class TokenMissing(Patches):
    has_token = True


class NotANumber(Patches):
    def maps(self, images):
        return super().maps(images) / 0.0


class OverTheBatch(Patches):
    """Centres by the batch: an image alone gets zero."""

    def maps(self, images):
        maps = super().maps(images)
        return maps - maps.mean(dim=0, keepdim=True)


class ChangesImages(Patches):
    def forward(self, images):
        return Features(self.maps(self.normalisation(images.mul_(0.5))))


class LeavesABlockOut(Patches):
    def __init__(self):
        super().__init__()
        self.unused = nn.Conv2d(16, 16, 1)

    @property
    def blocks(self):
        return [self.block, self.unused]


class HiddenState(Patches):
    """Draws numbers that the state dictionary lacks."""

    def __init__(self):
        super().__init__()
        self.offset = torch.rand(16, 1, 1)

    def maps(self, images):
        return super().maps(images) + self.offset.to(images.dtype)


class CannotBePickled(Patches):
    def __init__(self):
        super().__init__()
        self.activation = lambda maps: maps


class OnlySingle(Patches):
    """Multiplies with a matrix that stays float32 when the weights are cast."""

    def maps(self, images):
        return torch.einsum("bchw,cd->bdhw", super().maps(images), torch.eye(16))


class OnlyWholePatches(Patches):
    def maps(self, images):
        return super().maps(images.unflatten(2, (-1, 8)).flatten(2, 3))


class OtherSize(Mean):
    def __init__(self, num_channels):
        super().__init__(num_channels)
        self.output_dim = 9


class ChangesFeatures(Mean):
    def mean(self, maps):
        return maps.clamp_(min=0).mean(dim=(2, 3))


class MeanOverTheBatch(Mean):
    def mean(self, maps):
        means = super().mean(maps)
        return means - means.mean(dim=0)


class NoGradient(Mean):
    def mean(self, maps):
        return super().mean(maps).detach()

    def forward(self, features):
        return super().forward(features).detach() + self.linear.bias


class WholeOverTheBatch(Whole):
    def embed(self, images):
        embeddings = super().embed(images)
        return embeddings - embeddings.mean(dim=0)


class WholeOfAnotherSize(Whole):
    embedding_dim = 4


class HalfWidth(Mean):
    def forward(self, features):
        return super().forward(features).half()


class UnitLength(Mean):
    def forward(self, features):
        centred = features.maps.mean(dim=(2, 3))
        return self.linear(centred / centred.norm(dim=1, keepdim=True))


class KeepsGraph(Mean):
    def forward(self, features):
        self.last = super().forward(features)
        return self.last


class StaysOnCpu(Mean):
    def __init__(self, num_channels):
        super().__init__(num_channels)
        self.scale = torch.ones(num_channels)

    def mean(self, maps):
        return super().mean(maps) * self.scale.to(maps.dtype)


class RandomAtInference(Mean):
    def mean(self, maps):
        return nn.functional.dropout(super().mean(maps))


NETWORKS = {
    "half precision": (pooling_factory(HalfWidth), {"shapes"}),
    "divides by no length": (pooling_factory(UnitLength), {"flat-images"}),
    "keeps the graph": (pooling_factory(KeepsGraph), {"leaves-no-trace"}),
    "a tensor that stays on the CPU": (pooling_factory(StaysOnCpu), {"registered"}),
    "random at inference": (pooling_factory(RandomAtInference), {"one-image"}),
    "no Features": (backbone_factory(BareMaps), {"shapes"}),
    "other channels": (backbone_factory(WrongChannels), {"shapes"}),
    "no token": (backbone_factory(TokenMissing), {"shapes"}),
    "infinite features": (backbone_factory(NotANumber), {"shapes"}),
    "features depend on the batch": (
        backbone_factory(OverTheBatch),
        {"one-image"},
    ),
    "changes the images": (backbone_factory(ChangesImages), {"inputs-unmodified"}),
    "a trained block that is not used": (backbone_factory(LeavesABlockOut), {"gradient"}),
    "state outside state_dict": (backbone_factory(HiddenState), {"state-dict"}),
    "no pickling": (backbone_factory(CannotBePickled), {"picklable"}),
    "pooling of another size": (pooling_factory(OtherSize), {"shapes"}),
    "pooling changes the features": (pooling_factory(ChangesFeatures), {"inputs-unmodified"}),
    "pooling depends on the batch": (
        pooling_factory(MeanOverTheBatch),
        {"one-image"},
    ),
    "pooling cuts the gradient": (pooling_factory(NoGradient), {"gradient"}),
    "model depends on the batch": (
        model_factory(WholeOverTheBatch),
        {"one-image"},
    ),
    "model of another size": (model_factory(WholeOfAnotherSize), {"shapes"}),
    "only float32": (backbone_factory(OnlySingle), {"half-precision", "in-chunks"}),
    "breaks at odd sizes": (backbone_factory(OnlyWholePatches), {"odd-sizes"}),
}
