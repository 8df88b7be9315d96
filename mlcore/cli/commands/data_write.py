"""``mlcore data write FORMAT --from NAME --out DIR``: a data set in another's format.

``--from NAME`` and ``--from.OPTION VALUE`` are short for ``--dataset NAME`` and
``--dataset.OPTION VALUE``; both work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mlcore.cli import console
from mlcore.cli.data_report import show_report
from mlcore.cli.parser import NoOptions, Parser
from mlcore.errors import ConfigError
from mlcore.factories import DatasetFactory, Report
from mlcore.options import (
    Command,
    RawOption,
    RunConfig,
    command_line_option,
    format_help,
    parse_options,
    require_dataset_options,
    resolve_run,
)
from mlcore.protocols import PlaceDataset
from mlcore.registry.discovery import Registry


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "data write",
        "Write a data set in the format of another. '--from NAME' and '--from.OPTION VALUE' "
        "choose what to write, as '--dataset' does for 'mlcore train'. "
        "'mlcore data write FORMAT --help' shows the options of a format.",
        usage="mlcore data write FORMAT --from NAME --out DIR [option ...]",
        takes_run_options=True,
        add_help=False,
    )
    parser.add_argument("format", metavar="FORMAT", nargs="?", help="such as pittsburgh")
    parser.add_argument("--from", metavar="NAME", help="data set to write")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder; new or empty")
    parser.add_json_option()
    parser.add_argument("-h", "--help", action="store_true", help="show this help and stop")
    parser.add_block_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command, given the words after 'data write', and return its exit code."""
    parser = make_parser()
    own, given = parser.parse_with_run_options(argv)
    if own.help and own.format is None:
        console.write(parser.format_help())
        return 0
    registry = Registry.discover(block=own.block)
    target = _target(own.format, registry)
    config, title = target.write_config or NoOptions, f"format {target.name!r}"
    options, section, of_source = parse_options([] if own.help else given, config, title)
    if own.help:
        console.write(f"{parser.format_help()}\n{format_help([section])}")
        return 0
    source = _source(getattr(own, "from"), of_source)
    if not any(item.section == "dataset" or item.key == "config" for item in source):
        raise ConfigError(
            "--from is missing; name the data set to write, such as --from streets"
        )
    flags = [*parser.flags(), *map(section.flag, section.options)]
    run_config = resolve_run(source, registry, command=Command(parser.prog, flags))
    require_dataset_options(source, parser.prog)
    report = _write(target, options, run_config, _empty_folder(own.out))
    if own.json:
        console.write_json(asdict(report) | {"ok": report.ok})
    else:
        show_report(report)
    return 0 if report.ok else 1


def _source(name: str | None, options: Sequence[RawOption]) -> list[RawOption]:
    """Return the options with ``--from`` and ``--from.OPTION`` as those of a data set."""
    chosen = [] if name is None else [command_line_option("--dataset", name)]
    return chosen + [
        replace(item, section="dataset") if item.section == "from" else item for item in options
    ]


def _target(name: str | None, registry: Registry) -> DatasetFactory:
    factories = [factory for _, factory in registry.factories(DatasetFactory)]
    formats = ", ".join(factory.name for factory in factories if factory.write is not None)
    if not name:
        raise ConfigError(
            f"name the format to write, one of {formats}: mlcore data write FORMAT"
        )
    target = registry.resolve(DatasetFactory, name)
    target.require_libraries()
    if target.write is None:
        raise ConfigError(f"mlcore cannot write the {name!r} format; choose one of {formats}")
    return target


def _empty_folder(out: Path | None) -> Path:
    if out is None:
        raise ConfigError("--out is missing; give the folder to write to")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; give a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out} is not empty; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _require_one_region(dataset: PlaceDataset, target: str) -> None:
    """Raise ConfigError for several regions, which no format holds."""
    from mlcore.data.soundness import splits_of

    for split in splits_of(dataset).values():
        if split.references.region is not None:
            names = ", ".join(split.references.regions)
            raise ConfigError(
                f"the {target!r} format holds one region, the data set has several ({names}); "
                "write each on its own"
            )


def _write(target: DatasetFactory, options: Any, source: RunConfig, out: Path) -> Report:
    from mlcore.experiment import open_dataset

    assert target.write is not None, "a format has one"
    with console.progress() as progress:
        dataset = open_dataset(source, progress)
        _require_one_region(dataset, target.name)
        report = target.write(options, dataset, out, progress)
    console.notes(dataset.notes)
    return report
