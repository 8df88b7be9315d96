"""``mlcore data check``, ``prepare`` and ``write``: a data set's files, before a run.

``mlcore data check robotcar --root DIR`` is short for ``--dataset robotcar --dataset.root
DIR``; both forms work.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mlcore.cli import console
from mlcore.cli.data_report import show_report
from mlcore.cli.parser import Parser
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext, DatasetFactory, Finding, Report
from mlcore.options import COMPONENTS, ENGINE, Chosen, parse_run
from mlcore.registry.discovery import Registry

_NOT_OF_THE_DATA_SET = frozenset({*COMPONENTS, *ENGINE, "config", "seed"})


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 if a fault was found."""
    if argv[:1] == ["write"]:
        from mlcore.cli.commands import data_write

        return data_write.run(argv[1:])
    parser = _parser()
    own, rest = parser.parse_known_args(_named(argv))
    registry = Registry.discover(block=own.block)
    dataset = parse_run(rest, registry, own_options=parser.option_names()).dataset
    if own.action == "prepare":
        report = _prepare(dataset, registry, own.out)
    else:
        report = _check(dataset, full=own.full, out=own.out)
        if own.map is not None:
            report = _with_map(report, dataset, own.map)
    if own.json:
        console.write_json(asdict(report) | {"ok": report.ok})
    else:
        show_report(report)
    return 0 if report.ok else 1


def _parser() -> Parser:
    parser = Parser(
        "data",
        "Examine, prepare or write a data set; takes the options of mlcore train. "
        "'mlcore data check NAME --root DIR' is short for '--dataset NAME --dataset.root DIR'.",
    )
    parser.add_argument(
        "action",
        choices=("check", "prepare", "write"),
        help="check: look for faults; prepare: write what makes opening fast; write: write "
        "any data set in this one's form, see 'mlcore data write --help'",
    )
    parser.add_argument("--full", action="store_true", help="check: decode every image")
    parser.add_argument("--map", type=Path, metavar="PNG", help="check: draw the positions")
    parser.add_argument("--out", type=Path, metavar="DIR", help="prepare: folder to write")
    parser.add_argument("--json", action="store_true", help="print JSON for a script")
    parser.add_block_option()
    return parser


def _named(argv: Sequence[str]) -> list[str]:
    """Return the words with a data set's bare name and options written out."""
    if len(argv) < 2 or argv[0].startswith("-") or argv[1].startswith("-"):
        return list(argv)
    own = {name for name in _parser().option_names() if name.startswith("--")}
    words = [argv[0], "--dataset", argv[1]]
    for word in argv[2:]:
        name = word.partition("=")[0]
        bare = name.removeprefix("--")
        is_option = name.startswith("--") and name not in own and "." not in bare
        if is_option and bare not in _NOT_OF_THE_DATA_SET:
            words.append(f"--dataset.{word.removeprefix('--')}")
        else:
            words.append(word)
    return words


def _check(dataset: Chosen[DatasetFactory], *, full: bool, out: Path | None) -> Report:
    check = dataset.factory.check
    if out is not None:
        raise ConfigError("--out is an option of 'mlcore data prepare'")
    if check is None:
        from mlcore.data.soundness import check_any

        with console.progress() as progress:
            opened = dataset.factory.build(dataset.options, BuildContext(progress=progress))
        return check_any(opened, dataset.factory.radii.near_radius_m, full=full)
    if not full:
        return check(dataset.options)
    if "full" not in inspect.signature(check).parameters:
        raise ConfigError(f"the check of data set {dataset.name!r} has no --full")
    return check(dataset.options, full=True)


def _prepare(dataset: Chosen[DatasetFactory], registry: Registry, out: Path | None) -> Report:
    prepare = dataset.factory.prepare
    if prepare is None:
        raise ConfigError(
            f"data set {dataset.name!r} needs no preparation; these have one: "
            f"{_having(dataset, registry, 'prepare')}"
        )
    if out is None:
        raise ConfigError("--out is not set; give the folder to prepare into")
    with console.progress() as progress:
        return prepare(dataset.options, out, progress)


def _having(dataset: Chosen[DatasetFactory], registry: Registry, part: str) -> str:
    factories = [f for _, f in registry.factories(type(dataset.factory))]
    return ", ".join(f.name for f in factories if getattr(f, part) is not None)


def _with_map(report: Report, dataset: Chosen[DatasetFactory], path: Path) -> Report:
    """Draw the positions; a data set that does not open has a report and no map."""
    from mlcore.reporting.figures.positions import save_positions

    try:
        with console.progress() as progress:
            opened = dataset.factory.build(dataset.options, BuildContext(progress=progress))
        number = save_positions(opened, path)
    except DataError as error:
        message = f"no map was drawn: {error}"
        return replace(report, findings=(*report.findings, Finding("fault", message)))
    console.say(f"positions of {number:,} images: {path}")
    return report
