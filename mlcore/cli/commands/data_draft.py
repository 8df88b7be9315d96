"""``mlcore data draft FOLDER --out FILE``: a table of a folder's images, with a spatial cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlcore.cli import console
from mlcore.cli.data_report import show_report
from mlcore.cli.parser import NoOptions, Parser
from mlcore.cli.run_arguments import require_parent
from mlcore.errors import ConfigError
from mlcore.factories import BuildContext, DatasetFactory
from mlcore.options import format_help, parse_options, unknown_option
from mlcore.registry.discovery import Registry


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "data draft",
        "Write a table of the images of a folder from their EXIF: position, heading, date, and "
        "a proposal of training, validation and test images that are apart in space.",
        usage="mlcore data draft FOLDER --out FILE [option ...]",
        takes_run_options=True,
        add_help=False,
    )
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path, help="of the images")
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV file to write; new")
    parser.add_argument("--map", type=Path, metavar="PNG", help="draw the splits; new")
    parser.add_argument("--dataset", metavar="NAME", help="data set that opens the table")
    parser.add_json_option()
    parser.add_argument("-h", "--help", action="store_true", help="show this help and stop")
    parser.add_block_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command, given the words after 'data draft', and return its exit code."""
    parser = make_parser()
    own, given = parser.parse_with_run_options(argv)
    factory = _factory(own.dataset, Registry.discover(block=own.block))
    assert factory.draft is not None, "it was looked for"
    config = factory.draft_config or NoOptions
    options, section, others = parse_options([] if own.help else given, config, parser.prog)
    if own.help:
        console.write(f"{parser.format_help()}\n{format_help([section])}")
        return 0
    flags = [*parser.flags(), *map(section.flag, section.options)]
    for item in others:
        raise unknown_option(item.label, flags, parser.prog)
    if own.folder is None:
        raise ConfigError(f"name the folder of the images: {parser.usage}")
    if own.out is None:
        raise ConfigError("--out is missing; give the table to write, such as positions.csv")
    for flag in ("out", "map"):
        _require_new(flag, getattr(own, flag))
    with console.progress() as progress:
        report = factory.draft(options, own.folder, own.out, progress)
    if own.map is not None:
        _draw(factory, own.folder, own.out, own.map)
    if own.json:
        console.write_json(asdict(report) | {"ok": report.ok})
    else:
        show_report(report)
    console.say(f"Written: {own.out}" + (f", {own.map}" if own.map is not None else ""))
    return 0 if report.ok else 1


def _factory(name: str | None, registry: Registry) -> DatasetFactory:
    """Return the data set that drafts tables: the one named, or the only one that does."""
    able = [f for _, f in registry.factories(DatasetFactory) if f.draft is not None]
    names = ", ".join(factory.name for factory in able)
    if name is not None:
        factory = registry.resolve(DatasetFactory, name)
        if factory.draft is None:
            raise ConfigError(f"data set {name!r} drafts no table; these do: {names or 'none'}")
        return factory
    if len(able) != 1:
        raise ConfigError(f"choose the data set with --dataset; one of {names or 'none'}")
    return able[0]


def _require_new(flag: str, path: Path | None) -> None:
    require_parent(path, f"--{flag}")
    if path is not None and path.exists():
        raise ConfigError(f"--{flag} {path} already exists; choose another file")


def _draw(factory: DatasetFactory, folder: Path, table: Path, out: Path) -> None:
    from mlcore.reporting.figures.positions import save_positions

    options = factory.config(root=folder, table=table.absolute())
    save_positions(factory.build(options, BuildContext()), out)
