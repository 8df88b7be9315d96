"""``mlcore data check``, ``prepare``, ``write``, ``draft``: a data set's files, before a run.

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
from mlcore.cli.run_arguments import require_output_file
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext, DatasetFactory, Finding, Report
from mlcore.options import (
    ENGINE,
    Chosen,
    RawOption,
    command_line_option,
    require_dataset_options,
    resolve_run,
)
from mlcore.options.config import attribute_errors
from mlcore.registry.discovery import Registry


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "data",
        "Check, prepare, write or draft a data set; takes the options of 'mlcore train'.",
        usage="mlcore data check|prepare NAME [--OPTION VALUE ...]",
        epilog="'mlcore data check NAME --root DIR' is short for 'mlcore data check --dataset "
        "NAME --dataset.root DIR'.",
        takes_run_options=True,
    )
    parser.add_argument(
        "action",
        choices=("check", "prepare", "write", "draft"),
        help="check: look for faults; prepare: write an index that makes opening fast; write: "
        "write a data set in another format, see 'mlcore data write --help'; draft: write a "
        "table of a folder of photographs, see 'mlcore data draft --help'",
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="data set")
    parser.words["name"] = _dataset_names
    parser.add_argument("--full", action="store_true", help="check: decode every image")
    parser.add_argument("--map", type=Path, metavar="PNG", help="check: draw the positions")
    parser.add_argument("--out", type=Path, metavar="DIR", help="prepare: folder to write")
    parser.add_json_option()
    parser.add_block_option()
    return parser


def _dataset_names() -> list[str]:
    factories = Registry.discover().factories(DatasetFactory)
    return [name for _, factory in factories for name in (factory.name, *factory.aliases)]


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 if a fault was found."""
    if argv[:1] == ["write"]:
        from mlcore.cli.commands import data_write

        return data_write.run(argv[1:])
    if argv[:1] == ["draft"]:
        from mlcore.cli.commands import data_draft

        return data_draft.run(argv[1:])
    parser = make_parser()
    own, options = parser.parse_with_run_options(argv)
    require_output_file(own.map, "--map", ".png")
    registry = Registry.discover(block=own.block)
    if own.name is not None:
        chosen = command_line_option("--dataset", own.name)
        options = [chosen, *map(_as_dataset_option, options)]
    dataset = resolve_run(options, registry, command=parser.command).dataset
    require_dataset_options(options, f"mlcore data {own.action}")
    if own.action == "prepare":
        for flag in ("full", "map"):
            if getattr(own, flag):
                raise ConfigError(f"--{flag} is an option of 'mlcore data check' only")
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


def _as_dataset_option(item: RawOption) -> RawOption:
    """Return the option, in section ``dataset`` if the run has no section of its name."""
    is_bare = not item.section and item.option not in {*ENGINE, "config", "seed"}
    return replace(item, section="dataset") if is_bare else item


def _check(dataset: Chosen[DatasetFactory], *, full: bool, out: Path | None) -> Report:
    check = dataset.factory.check
    if out is not None:
        raise ConfigError("--out is an option of 'mlcore data prepare' only")
    if check is None:
        from mlcore.data.soundness import check_any

        near_radius_m = dataset.factory.radii.near_radius_m
        try:
            with attribute_errors(dataset, "could not be checked"):
                with console.progress() as progress:
                    context = BuildContext(progress=progress)
                    opened = dataset.factory.build(dataset.options, context)
                return check_any(opened, near_radius_m, full=full)
        except DataError as error:
            return Report(facts={}, findings=(Finding("fault", str(error)),))
    if full and "full" not in inspect.signature(check).parameters:
        raise ConfigError(f"the check of data set {dataset.name!r} does not support --full")
    with attribute_errors(dataset, "could not be checked"):
        return check(dataset.options, **({"full": True} if full else {}))


def _prepare(dataset: Chosen[DatasetFactory], registry: Registry, out: Path | None) -> Report:
    prepare = dataset.factory.prepare
    if prepare is None:
        raise ConfigError(
            f"data set {dataset.name!r} needs no preparation; these do: "
            f"{_names_with(dataset, registry, 'prepare')}"
        )
    if out is None:
        raise ConfigError("--out is missing; give the folder to write to")
    with console.progress() as progress:
        return prepare(dataset.options, out, progress)


def _names_with(dataset: Chosen[DatasetFactory], registry: Registry, part: str) -> str:
    factories = [f for _, f in registry.factories(type(dataset.factory))]
    return ", ".join(f.name for f in factories if getattr(f, part) is not None)


def _with_map(report: Report, dataset: Chosen[DatasetFactory], path: Path) -> Report:
    """Draw the positions; if the data set cannot be opened, add a fault instead."""
    from mlcore.reporting.figures.positions import save_positions

    try:
        with console.progress() as progress:
            opened = dataset.factory.build(dataset.options, BuildContext(progress=progress))
        number = save_positions(opened, path)
    except DataError as error:
        message = f"no map was drawn: {error}"
        return replace(report, findings=(*report.findings, Finding("fault", message)))
    console.say(f"Written: {path}, positions of {number:,} images")
    return report
