"""``mlcore train``: train a model with a loss, then evaluate it.

Everything that is not a flag of its own is an option of the run: see
:mod:`mlcore.options` for how the chosen components give the command its options.
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
from mlcore.options import RunConfig, parse_run, run_help, run_to_toml
from mlcore.registry.discovery import Registry
from mlcore.run_folder import KINDS, Kind, RunFolder


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = _own_parser()
    own, rest = parser.parse_known_args(argv)
    registry = Registry.discover(block=own.block)
    if own.help:
        console.write(parser.format_help() + "\n" + run_help(rest, registry))
        return 0
    if own.resume is not None:
        return _resume(own, rest, registry)
    if own.accept_changes:
        raise ConfigError("--accept-changes is for --resume")
    config = parse_run(rest, registry, own_options=parser.option_names())
    if own.print_config:
        console.write(run_to_toml(config))
        return 0
    if was_started_by_first():
        return _train(config, registry, Path(os.environ[RUN_FOLDER]), new=False)
    out = own.out or _default_folder(config)
    if is_first():
        RunFolder.require_free(out)
    return _train(config, registry, out, new=True)


def _resume(own: Namespace, rest: Sequence[str], registry: Registry) -> int:
    """Go on with a run; what changes no number may be given, the rest must be accepted."""
    if own.out is not None:
        raise ConfigError("--resume goes on in the run's own folder; leave out --out")
    folder = RunFolder.open(own.resume)
    config = parse_run(["--config", str(folder.config), *rest], registry)
    return _train(config, registry, folder.path, new=False, accepted=own.accept_changes)


def _kinds(text: str) -> tuple[Kind, ...]:
    """Return the kinds of changes that a user accepts."""
    kinds = tuple(kind for kind in KINDS if kind in text.split(","))
    if not kinds or set(text.split(",")) != set(kinds):
        raise ArgumentTypeError(f"expected some of {', '.join(KINDS)}, got {text!r}")
    return kinds


def _train(
    config: RunConfig,
    registry: Registry,
    out: Path,
    *,
    new: bool,
    accepted: Sequence[Kind] = (),
) -> int:
    from mlcore.reporting.tables import result_tables

    try:
        ending, results, warnings = train_and_evaluate(
            config, registry, out, new=new, may_launch=True, accepted=accepted
        )
    except FailedElsewhereError as error:
        # Lightning kills the first process, which tells why, if one that it started fails.
        return 0 if was_started_by_first() else error.exit_code
    if not is_first():
        return 0 if was_started_by_first() else STOPPED.get(ending, 0)
    if ending != "finished":
        console.say(f"Stopped and saved; go on with: mlcore train --resume {out}")
        return STOPPED[ending]
    console.show(result_tables(results))
    for warning in warnings:
        console.say(f"warning: {warning}")
    console.say(f"Run folder: {out}")
    return 0


def _own_parser() -> Parser:
    parser = Parser("train", "Train a model with a loss, then evaluate it.", add_help=False)
    parser.add_argument("--out", type=Path, help="folder of the run; must not exist")
    parser.add_argument("--resume", type=Path, help="go on with the run in this folder")
    parser.add_argument(
        "--accept-changes",
        type=_kinds,
        default=(),
        metavar="KIND,...",
        help="with --resume: go on although data, code or config differ from what the run "
        "began with",
    )
    parser.add_argument("--block", action="append", default=[], help="leave a plugin out")
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved TOML and stop"
    )
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    return parser


def _default_folder(config: RunConfig) -> Path:
    now = dt.datetime.now(tz=dt.UTC).astimezone()
    loss, dataset = config.loss.factory.name, config.dataset.factory.name
    return Path("runs") / f"{now:%Y%m%d-%H%M%S}-{loss}-{dataset}"
