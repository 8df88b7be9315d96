"""What commands that show matches share: the threshold, and each model's results."""

from __future__ import annotations

import math
from argparse import Namespace
from typing import TYPE_CHECKING

from mlcore.cli.trained_runs import NamedModel
from mlcore.errors import ConfigError

if TYPE_CHECKING:
    from mlcore.embedding import Embedder
    from mlcore.options import Parser
    from mlcore.protocols import Progress, Split
    from mlcore.results import Evaluation


def add_within(parser: Parser) -> None:
    """Add ``--within M``."""
    parser.add_argument(
        "--within",
        type=float,
        default=10.0,
        metavar="M",
        help="a match nearer than this many metres is right (default: 10)",
    )


def require_within(options: Namespace) -> None:
    """Raise ConfigError unless ``--within`` is a distance."""
    if not 0 < options.within < math.inf:
        raise ConfigError(
            f"--within must be a positive number of metres, got {options.within:g}"
        )


def judge_model(
    named: NamedModel, split: Split, split_name: str, progress: Progress
) -> tuple[Embedder, Evaluation]:
    """Return what embeds the model's images, and what it retrieves for a split."""
    from mlcore.evaluation import evaluate_model
    from mlcore.judging import embedder_of

    embedder = embedder_of(named.model, named.config, progress)
    results = evaluate_model(
        embedder,
        named.dataset,
        split,
        named.config.evaluation,
        name=named.name,
        split_name=split_name,
    )
    return embedder, results
