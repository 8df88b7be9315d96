"""``mlcore sweep RUN...``: accuracy by embedding dimension and by spacing of references."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import add_split, models_of_runs, out_folder, parser_for_runs
from mlcore.errors import ConfigError
from mlcore.options import Command, RawOption
from mlcore.options.engine import EvaluationOptions
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.cli.parser import Parser
    from mlcore.evaluation.results import Evaluation

DIMENSIONS = (16, 32, 64, 128, 256)
SPACINGS_M = (0.0, 0.3, 1.0, 5.0)


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    settings = _Settings(options)
    out = out_folder(options)
    results = _evaluate(options, changes, parser.command, settings)

    from mlcore.reporting.figures.curves import save_curves
    from mlcore.reporting.figures.sweeps import (
        save_dimensions,
        save_spacings,
        sweep_document,
        sweep_table,
    )

    first = settings.spacings_m[0]
    by_dimension = [one for one in results if one.protocol.spacing_m == first]
    by_spacing = _at_dimension(results, options.spacings_at)
    at_first = [one for one in by_spacing if one.protocol.spacing_m == first]
    save_dimensions(by_dimension, out / "dimensions.png", threshold_m=options.at)
    save_spacings(by_spacing, out / "spacings.png", threshold_m=options.at)
    save_curves(at_first, out / "metres.png", limits_m=settings.limits_m)
    document = sweep_document(results, threshold_m=options.at)
    RunFolder.open(options.runs[0]).write_json(out / "sweep.json", document)
    if options.json:
        console.write_json(document)
    else:
        console.show(sweep_table(results, threshold_m=options.at))
    console.say(f"Written: {out}/dimensions.png, spacings.png, metres.png, sweep.json")
    return 0


class _Settings:
    """The numbers given on the command line."""

    def __init__(self, options: Namespace) -> None:
        self.dimensions = [
            int(value) for value in _numbers("--dimensions", options.dimensions, whole=True)
        ]
        self.spacings_m = _numbers("--spacings", options.spacings)
        if min(self.dimensions) < 1:
            raise ConfigError(f"--dimensions must be at least 1, got {min(self.dimensions)}")
        if min(self.spacings_m) < 0:
            raise ConfigError(f"--spacings must not be negative, got {min(self.spacings_m):g}")
        if not 0 < options.at < math.inf:
            raise ConfigError(f"--at must be a positive number of metres, got {options.at:g}")
        self.limits_m = _range(options.thresholds)


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    swept = ("dimensions", "spacing_m")  # by flags of their own
    parser = parser_for_runs(
        "sweep",
        "Measure accuracy by embedding dimension and by spacing of references.",
        evaluation=[f.name for f in fields(EvaluationOptions) if f.name not in swept],
    )
    parser.add_argument(
        "--dimensions",
        default=",".join(map(str, DIMENSIONS)),
        metavar="D,D,...",
        help="embedding dimensions after whitening (default: %(default)s)",
    )
    parser.add_argument(
        "--spacings",
        default=",".join(f"{value:g}" for value in SPACINGS_M),
        metavar="M,M,...",
        help="least distances in metres between references; 0: all (default: %(default)s)",
    )
    parser.add_argument(
        "--spacings-at",
        type=int,
        default=256,
        metavar="D",
        help="dimension of the figure over spacings, or the next smaller one (default: 256)",
    )
    parser.add_argument(
        "--at",
        type=float,
        default=10.0,
        metavar="M",
        help="accuracy within this many metres is measured (default: 10)",
    )
    parser.add_argument(
        "--thresholds",
        default="0:25",
        metavar="FROM:TO",
        help="range in metres of the accuracy curve (default: %(default)s)",
    )
    add_split(parser, "test", "validation")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder (default for one run: RUN/plots)"
    )
    parser.add_json_option()
    return parser


def _evaluate(
    options: Namespace, changes: Sequence[RawOption], command: Command, settings: _Settings
) -> list[Evaluation]:
    """Return the results of every model at every setting, one model after the other."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.evaluation.results import require_same_protocol
    from mlcore.evaluation.sweeps import embed_split, sweep

    results: list[Evaluation] = []
    largest = max(settings.dimensions)
    with console.progress() as progress:
        for named in models_of_runs(options, changes, command, progress):
            evaluation = replace(named.config.evaluation, dimensions=largest)
            if evaluation.whitening == "auto":  # only whitening orders the dimensions
                evaluation = replace(evaluation, whitening="train")
            if evaluation.whitening == "none":
                raise ConfigError(
                    "--whitening none does not order the dimensions, so there is nothing to "
                    "sweep; use train or references"
                )
            embedded = embed_split(
                embedder_of(named.model, named.config, progress),
                named.dataset,
                getattr(named.dataset, options.split),
                evaluation,
                name=named.name,
            )
            if embedded.dimensions < largest:
                console.say(
                    f"note: {named.name}: whitening keeps {embedded.dimensions} of the "
                    f"{largest} dimensions asked for (it was fitted on "
                    f"{embedded.whitening_images} embeddings of {named.model.embedding_dim})"
                )
            results += sweep(
                embedded,
                evaluation,
                dimensions=settings.dimensions,
                spacings_m=settings.spacings_m,
                name=named.name,
                split_name=options.split,
                data_fingerprint=named.dataset.fingerprint,
                progress=progress,
            )
    require_same_protocol([one for one in results if one.protocol.spacing_m == 0] or results)
    return results


def _at_dimension(results: Sequence[Evaluation], wanted: int) -> list[Evaluation]:
    """Return each model's results at ``wanted`` dimensions, the next fewer, or the fewest."""
    chosen: list[Evaluation] = []
    for model in dict.fromkeys(one.model for one in results):
        mine = [one for one in results if one.model == model]
        sizes = {one.dimensions for one in mine}
        size = max((size for size in sizes if size <= wanted), default=min(sizes))
        chosen += [one for one in mine if one.dimensions == size]
    return chosen


def _numbers(option: str, text: str, *, whole: bool = False) -> list[float]:
    kind = "integers" if whole else "numbers"
    try:
        values = [float(int(word) if whole else float(word)) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"{option} must be {kind} separated by commas, got {text!r}"
        ) from None
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{option} must be finite, got {text!r}")
    return list(dict.fromkeys(values))


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(word) for word in text.split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if not 0 <= low < high < math.inf:
        raise ConfigError(f"--thresholds must be FROM:TO in metres, such as 0:25, got {text!r}")
    return low, high
