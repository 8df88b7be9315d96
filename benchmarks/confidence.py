"""Confidence of localizations on test queries, and what a reranker changes.

Thresholds are those that each run's validation queries gave; nothing is chosen on the test. A
run without validation queries has none: the reranker then compares every image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks import _common as common

if TYPE_CHECKING:
    from mlcore.protocols import PlaceTable
    from mlcore.retrieval.localization import QueryImage

DURATION = "a minute per run"


class Counts(NamedTuple):
    """Answers of one kind, and those of them that are right."""

    number: int
    right: int

    def __str__(self) -> str:
        """Return both, and the share."""
        return f"{self.right} of {self.number}" if self.number else "none"


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("runs", metavar="RUN", nargs="*", type=Path, help="trained runs")
    parser.add_argument("--reranker", default="sift", help="default: sift")
    parser.add_argument("--rerank", type=int, default=10, help="references compared")
    options = parser.parse_args(argv)
    if not options.runs:
        print("give RUN...: trained runs, whose answers are counted")
        return 0 if options.quick else 2
    rows = [_row(path, options.reranker, options.rerank) for path in options.runs]
    columns = (
        "run",
        "right within",
        "thresholds from",
        "sure",
        "unsure",
        "all",
        "verified where unsure",
        "all, reranked where unsure",
        "all, every image reranked",
        "CPU s per reranked image",
    )
    body = common.markdown_table(columns, rows)
    body += (
        "\n\nCells are right answers of those of that kind, on the test split; an answer is "
        "right if its first reference is within the distance.\n"
    )
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=argv,
        method="each run once; seconds are of the processor, on one image after the other",
    )
    return 0


def _row(path: Path, name: str, num_compared: int) -> list[object]:
    import numpy as np

    from mlcore.cli.run_arguments import open_run
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.factories import RerankerFactory
    from mlcore.options import Command
    from mlcore.options.single import choose_single
    from mlcore.registry.discovery import Registry
    from mlcore.retrieval.confidence import read_confidence
    from mlcore.retrieval.localization import localize
    from mlcore.retrieval.references import embed_references
    from mlcore.retrieval.reranking import Reranking

    run = open_run(path, (), (), Command("benchmark"))
    split, settings = run.dataset.test, run.config.evaluation
    embedder = embedder_of(run.model, run.config)
    references = embed_references(embedder, run.dataset, split.references, settings)
    asked = _asked(run.dataset.image_name, split.queries)
    chosen, _ = choose_single(RerankerFactory, name, (), Registry.discover())
    assert chosen is not None
    reranking = Reranking.of(chosen, num_compared)
    confidence = read_confidence(run.folder.model)
    radius_m = settings.recall_radius_m

    def found(confidence, reranking):
        started = time.process_time()
        localized = localize(
            asked,
            replace(embedder, skip_unreadable=False),
            run.dataset,
            references,
            1,
            confidence=confidence,
            reranking=reranking,
        )
        right = np.array([one.matches[0].distance_m <= radius_m for one in localized])
        kind = np.array([one.answer.confidence for one in localized])
        return right, kind, time.process_time() - started

    right, kind, alone_s = found(confidence, None)
    again, again_kind, _ = found(confidence, reranking)
    always, _, always_s = found(None, reranking)

    def count(which, right=right) -> Counts:
        return Counts(int(which.sum()), int((which & right).sum()))

    everything = np.ones(len(asked), dtype=bool)
    return [
        path.name,
        f"{radius_m:g} m",
        "none" if confidence is None else f"{confidence.num_queries} validation queries",
        count(kind == "sure"),
        count(kind != "sure"),
        count(everything),
        count(again_kind == "verified", again),
        count(everything, again),
        count(everything, always),
        f"{max(0.0, always_s - alone_s) / len(asked):.2f}",
    ]


def _asked(name_of: Callable[[int], str], queries: PlaceTable) -> list[QueryImage]:
    from mlcore.retrieval.localization import QueryImage

    return [
        QueryImage(
            name=name_of(int(index)),
            index=int(index),
            position_m=queries.positions_m[row],
            region=None if queries.region is None else queries.regions[queries.region[row]],
        )
        for row, index in enumerate(queries.index)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
