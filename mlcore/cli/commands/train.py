"""``mlcore train``: train a model with a loss, then evaluate it.

Apart from the command's own flags, all arguments are options of the run; see
:mod:`mlcore.options`.
"""

from __future__ import annotations

import datetime as dt
import os
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.cli.train_run import STOPPED, train_and_evaluate
from mlcore.distributed import RUN_FOLDER, is_first, was_started_by_first
from mlcore.errors import ConfigError, FailedElsewhereError
from mlcore.options import (
    Command,
    RawOption,
    RunConfig,
    command_line_option,
    require_effect,
    resolve_run,
    run_help,
    run_to_toml,
)
from mlcore.registry.discovery import Registry
from mlcore.run_folder import KINDS, Kind, RunFolder

_EXAMPLES = """examples:
  mlcore train
  mlcore train --loss pml-triplet-margin --training.max_steps 1000
  mlcore train --loss proposed --influence linear --influence.cutoff_m 20
  mlcore train --config run.toml --training.max_steps 500 --out runs/short
  mlcore train --resume runs/short
"""


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "train",
        "Train a model with a loss, then evaluate it.",
        usage="mlcore train [--loss NAME] [--dataset NAME] [--config FILE] [option ...]",
        takes_run_options=True,
        add_help=False,
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="run folder; new or empty (default: in runs/)"
    )
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="continue the run in this folder"
    )
    parser.add_argument(
        "--accept-changes",
        type=_kinds,
        default=(),
        metavar="KIND,...",
        help="with --resume: continue although data, code or config have changed",
    )
    parser.add_block_option()
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved TOML and stop"
    )
    parser.add_json_option()
    parser.add_argument("-h", "--help", action="store_true", help="show this help and stop")
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    own, options = parser.parse_with_run_options(argv)
    registry = Registry.discover(block=own.block)
    if own.help:
        console.write(f"{parser.format_help()}\n{_EXAMPLES}\n{run_help(options, registry)}")
        return 0
    if own.resume is not None:
        return _resume(own, options, registry, parser.command)
    if own.accept_changes:
        raise ConfigError("--accept-changes only works with --resume")
    config = resolve_run(options, registry, command=parser.command)
    require_effect([config], options)
    if own.print_config and own.json:
        raise ConfigError("--json has no effect with --print-config, which prints TOML")
    if own.print_config:
        console.write(run_to_toml(config))
        return 0
    if was_started_by_first():
        return _train(own, config, registry, Path(os.environ[RUN_FOLDER]), new=False)
    out = own.out or default_folder(config)
    if is_first():
        RunFolder.require_free(out)
    return _train(own, config, registry, out, new=True, given=options)


def _resume(
    own: Namespace, options: Sequence[RawOption], registry: Registry, command: Command
) -> int:
    """Continue a run; options that change results must be accepted with a flag."""
    if own.out is not None:
        raise ConfigError("--resume continues in the run's own folder; remove --out")
    if own.print_config:
        raise ConfigError(
            "--print-config does not apply to --resume; the run's options are in "
            f"{own.resume / 'config.toml'}"
        )
    folder = RunFolder.open(own.resume)
    kept = command_line_option("--config", str(folder.config))
    config = resolve_run([kept, *options], registry, command=command)
    require_effect([config], options)
    return _train(own, config, registry, folder.path, new=False, given=options)


def _kinds(text: str) -> tuple[Kind, ...]:
    """Return the kinds of changes that the user accepts."""
    kinds = tuple(kind for kind in KINDS if kind in text.split(","))
    if not kinds or set(text.split(",")) != set(kinds):
        raise ArgumentTypeError(f"expected one or more of {', '.join(KINDS)}, got {text!r}")
    return kinds


def _train(
    own: Namespace,
    config: RunConfig,
    registry: Registry,
    out: Path,
    *,
    new: bool,
    given: Sequence[RawOption] = (),
) -> int:
    from mlcore.evaluation.documents import to_document
    from mlcore.reporting.tables import result_tables

    try:
        ending, results, warnings = train_and_evaluate(
            config,
            registry,
            out,
            new=new,
            may_launch=True,
            accepted=own.accept_changes,
            given=given,
        )
    except FailedElsewhereError as error:
        # Lightning kills the first process, which reports why, if one it started fails.
        return 0 if was_started_by_first() else error.exit_code
    if not is_first():
        return 0 if was_started_by_first() else STOPPED.get(ending, 0)
    if ending != "finished":
        console.say(f"Stopped and saved; continue with: mlcore train --resume {out}")
        return STOPPED[ending]
    if own.json:
        console.write_json(
            {**to_document(results), "run": str(out), "warnings": list(warnings)}
        )
    elif results:
        console.show(result_tables(results))
    for warning in warnings:
        console.say(f"warning: {warning}")
    console.say(f"Run folder: {out}")
    return 0


def default_folder(config: RunConfig) -> Path:
    """Return a run folder by time, loss and data set."""
    now = dt.datetime.now(tz=dt.UTC).astimezone()
    loss, dataset = config.loss.factory.name, config.dataset.factory.name
    return Path("runs") / f"{now:%Y%m%d-%H%M%S}-{loss}-{dataset}"
