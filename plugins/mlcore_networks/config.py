"""Options of the backbones, the poolings and the named pairs; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.models import NetworkConfig
from mlcore.option_types import AT_LEAST_ONE, POSITIVE, Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


@dataclass(frozen=True, kw_only=True)
class SmallCnnBackboneConfig:
    """Options of the small network without its pooling.

    Attributes:
        width: Channels of the first layer, a multiple of 8; the last has four times as
            many.
    """

    width: Annotated[int, Range(at_least=8)] = 16

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class SmallCnnConfig(NetworkConfig):
    """Options of the small network.

    Attributes:
        pooling: How local features become one vector; see 'mlcore list poolings'.
        num_clusters: Words of netvlad.
        embedding_dim: Dimensions after a linear projection; None keeps what the pooling
            gives.
        width: Channels of the first layer, a multiple of 8; the last has four times as
            many.
    """

    pooling: str = "gem"
    num_clusters: Annotated[int, AT_LEAST_ONE] = 16
    embedding_dim: Annotated[int | None, AT_LEAST_ONE] = 256
    width: Annotated[int, Range(at_least=8)] = 16


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig(NetworkConfig):
    """Options of the networks that start from ImageNet weights.

    Attributes:
        pooling: How local features become one vector; see 'mlcore list poolings'.
        num_clusters: Words of netvlad.
    """

    weights: str = "imagenet"
    pooling: str = "gem"
    num_clusters: Annotated[int, AT_LEAST_ONE] = 64


@dataclass(frozen=True, kw_only=True)
class VggConfig(PretrainedConfig):
    """Options of VGG16; pooled by NetVLAD as in the paper unless you choose otherwise."""

    pooling: str = "netvlad"


@dataclass(frozen=True, kw_only=True)
class NetVladConfig:
    """Options of NetVLAD.

    Attributes:
        num_clusters: Words, each of which collects the residuals of the features near it.
    """

    num_clusters: Annotated[int, AT_LEAST_ONE] = 64

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Options of the grid.

    Attributes:
        rows: Cells along the height.
        columns: Cells along the width.
    """

    rows: Annotated[int, AT_LEAST_ONE] = 2
    columns: Annotated[int, AT_LEAST_ONE] = 4

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class CosPlaceConfig:
    """Options of CosPlace's aggregation.

    Attributes:
        dimensions: Dimensions after its linear layer.
    """

    dimensions: Annotated[int, AT_LEAST_ONE] = 512

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class ConvApConfig:
    """Options of Conv-AP.

    Attributes:
        channels: Channels after its 1 x 1 convolution.
        rows: Cells of its adaptive mean along the height.
        columns: Cells along the width.
    """

    channels: Annotated[int, AT_LEAST_ONE] = 512
    rows: Annotated[int, AT_LEAST_ONE] = 2
    columns: Annotated[int, AT_LEAST_ONE] = 2

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class MixVprConfig:
    """Options of MixVPR.

    Attributes:
        channels: Channels after the mixing.
        rows: Numbers that each channel's map is reduced to.
        depth: Mixing layers.
        expansion: Size of a mixing layer's hidden vector, as a multiple of the map's.
    """

    channels: Annotated[int, AT_LEAST_ONE] = 512
    rows: Annotated[int, AT_LEAST_ONE] = 4
    depth: Annotated[int, AT_LEAST_ONE] = 4
    expansion: Annotated[float, POSITIVE] = 1.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class SaladConfig:
    """Options of SALAD.

    Attributes:
        num_clusters: Clusters that features are assigned to; fewer than there are features.
        channels: Dimensions of each cluster's vector.
        token_dim: Dimensions of the class token's part.
        hidden: Hidden channels of its two-layer perceptrons.
    """

    num_clusters: Annotated[int, AT_LEAST_ONE] = 64
    channels: Annotated[int, AT_LEAST_ONE] = 128
    token_dim: Annotated[int, AT_LEAST_ONE] = 256
    hidden: Annotated[int, AT_LEAST_ONE] = 512

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class BoqConfig:
    """Options of bag-of-queries.

    Attributes:
        channels: Channels of its tokens, a multiple of 32 (one attention head per 32).
        num_queries: Learned queries of each block.
        num_blocks: Blocks.
        rows: Vectors that the outputs of all queries are combined into.
    """

    channels: Annotated[int, AT_LEAST_ONE] = 256
    num_queries: Annotated[int, AT_LEAST_ONE] = 32
    num_blocks: Annotated[int, AT_LEAST_ONE] = 2
    rows: Annotated[int, AT_LEAST_ONE] = 16

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.channels < 32 or self.channels % 32:
            raise ValueError(f"channels must be a positive multiple of 32, got {self.channels}")
