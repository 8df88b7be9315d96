"""``mlcore data write FORM --from NAME --out DIR``: a data set in the form of another.

``--from NAME`` and ``--from.OPTION VALUE`` are short for ``--dataset NAME`` and
``--dataset.OPTION VALUE``; both work.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlcore.cli import console
from mlcore.cli.data_report import show_report
from mlcore.cli.parser import Parser
from mlcore.errors import ConfigError
from mlcore.factories import DatasetFactory, Report
from mlcore.options import RunConfig, own_help, parse_own, parse_run
from mlcore.registry.discovery import Registry

_FROM = re.compile(r"^--from(?=[.=]|$)")
_SOURCES = ("--dataset", "--config")


@dataclass(frozen=True)
class _NoOptions:
    """Options of a form that has none."""


def run(argv: Sequence[str]) -> int:
    """Run the command, given the words after 'data write', and return its exit code."""
    parser = _parser()
    has_form = bool(argv) and not argv[0].startswith("-")
    words = [_FROM.sub("--dataset", word) for word in argv[has_form:]]
    own, rest = parser.parse_known_args(words)
    if own.help and not has_form:
        console.write(parser.format_help())
        return 0
    registry = Registry.discover(block=own.block)
    form = _form(argv[0] if has_form else "", registry)
    config, title = form.write_config or _NoOptions, f"form {form.name!r}"
    if own.help:
        console.write(parser.format_help() + "\n" + own_help(config, title))
        return 0
    options, flags, of_source = parse_own(rest, config, title)
    source = parse_run(of_source, registry, own_options=[*parser.option_names(), *flags])
    if not any(word.partition("=")[0] in _SOURCES for word in of_source):
        raise ConfigError(
            "--from is not set; name the data set to write, such as --from streets"
        )
    report = _write(form, options, source, _empty_folder(own.out))
    if own.json:
        console.write_json(asdict(report) | {"ok": report.ok})
    else:
        show_report(report)
    return 0 if report.ok else 1


def _parser() -> Parser:
    parser = Parser(
        "data write",
        "Write a data set in the form of another. '--from NAME --from.OPTION VALUE' choose "
        "what is written, as '--dataset' does for mlcore train. "
        "'mlcore data write FORM --help' shows the options of a form.",
        usage="mlcore data write FORM --from NAME --out DIR [option ...]",
        add_help=False,
    )
    parser.add_argument("--from", metavar="NAME", help="data set that is written")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument("--json", action="store_true", help="print JSON for a script")
    parser.add_argument("-h", "--help", action="store_true", help="show this and stop")
    parser.add_block_option()
    return parser


def _form(name: str, registry: Registry) -> DatasetFactory:
    factories = [factory for _, factory in registry.factories(DatasetFactory)]
    having = ", ".join(factory.name for factory in factories if factory.write is not None)
    if not name:
        raise ConfigError(f"name the form to write, one of {having}: mlcore data write FORM")
    form = registry.resolve(DatasetFactory, name)
    form.require_libraries()
    if form.write is None:
        raise ConfigError(f"data set {name!r} is no form to write; these are: {having}")
    return form


def _empty_folder(out: Path | None) -> Path:
    if out is None:
        raise ConfigError("--out is not set; give the folder to write")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; give a new folder")
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"--out {out} is not empty; give a new folder")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _write(form: DatasetFactory, options: Any, source: RunConfig, out: Path) -> Report:
    from mlcore.experiment import open_dataset

    assert form.write is not None, "a form has one"
    with console.progress() as progress:
        dataset = open_dataset(source, progress)
        report = form.write(options, dataset, out, progress)
    console.notes(dataset.notes)
    return report
