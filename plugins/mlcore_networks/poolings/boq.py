"""BoQ: learned queries that look at the features of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mlcore import Features
from mlcore.models import Pooling

_CHANNELS_PER_HEAD = 32


class BagOfQueries(Pooling):
    """Learned queries attend to the features, block after block.

    Ali-bey, Chaib-draa, Giguere, BoQ: A Place is Worth a Bag of Learnable Queries, CVPR 2024,
    section 3. Heads have 32 channels; nothing is dropped.

    Args:
        num_channels: ``C``.
        channels: ``c`` of the tokens.
        num_queries: ``K`` queries of each block.
        num_blocks: Blocks.
        rows: ``r``, vectors that all queries' outputs are combined into.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        channels: int,
        num_queries: int,
        num_blocks: int,
        rows: int,
    ) -> None:
        super().__init__()
        self.output_dim = channels * rows
        self.convolution = nn.Conv2d(num_channels, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(
            QueryBlock(channels, num_queries) for _ in range(num_blocks)
        )
        self.combination = nn.Linear(num_blocks * num_queries, rows)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, c * r)`` of unit length."""
        tokens = self.norm(self.convolution(features.maps).flatten(2).transpose(1, 2))
        outputs = []
        for block in self.blocks:
            tokens, output = block(tokens)
            outputs.append(output)
        combined = self.combination(torch.cat(outputs, dim=1).transpose(1, 2))  # (B, c, r)
        return normalize(combined.flatten(1), dim=1)


class QueryBlock(nn.Module):
    """An encoder layer on the tokens, and ``K`` queries that look at what it gives.

    Args:
        channels: ``c``.
        num_queries: ``K``.
    """

    def __init__(self, channels: int, num_queries: int) -> None:
        super().__init__()
        heads = channels // _CHANNELS_PER_HEAD
        self.encoder = nn.TransformerEncoderLayer(
            channels, heads, 4 * channels, dropout=0.0, batch_first=True
        )
        self.queries = nn.Parameter(torch.randn(1, num_queries, channels))
        self.query_attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.query_norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.output_norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoded tokens ``(B, n, c)`` and the queries' output ``(B, K, c)``."""
        tokens = self.encoder(tokens)
        # Not len(tokens), a constant to torch.export: the file would take one batch size only.
        queries = self.queries.expand(tokens.shape[0], -1, -1)
        looked, _ = self.query_attention(queries, queries, queries, need_weights=False)
        queries = self.query_norm(queries + looked)
        found, _ = self.attention(queries, tokens, tokens, need_weights=False)
        return tokens, self.output_norm(found)
