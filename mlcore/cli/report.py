"""``mlcore report RUN...``: the metres curve of runs as a picture, beside their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.trained import require_folder_of
from mlcore.errors import ConfigError, DataError
from mlcore.options import Parser
from mlcore.records import RunFolder

if TYPE_CHECKING:
    from mlcore.results import Evaluation


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = Parser("report", "Draw the metres curve of runs and print their table.")
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a run")
    parser.add_argument(
        "--out", type=Path, help="PNG to write (default: plots/metres.png of the only run)"
    )
    options = parser.parse_command(argv)
    require_folder_of(options.out, "--out")
    folders = [RunFolder.open(path) for path in options.runs]
    if options.out is None and len(folders) > 1:
        raise ConfigError("several runs in one picture need --out FILE.png")

    from mlcore.reporting.curves import save_curves
    from mlcore.reporting.tables import accuracy_table

    results = _results(folders)
    out = options.out or folders[0].plots / "metres.png"
    save_curves(results, out)
    console.show(accuracy_table(results))
    console.say(f"Written: {out}")
    return 0


def _results(folders: Sequence[RunFolder]) -> list[Evaluation]:
    """Return the results of one run; of several, the trained ones after the first's others."""
    first, *others = [_read(folder) for folder in folders]
    if not others:
        return first
    baselines = [one for one in first if one.model != "trained"]
    names = _short_names([folder.path for folder in folders])
    return baselines + [
        replace(one, model=name)
        for name, results in zip(names, (first, *others), strict=True)
        for one in results
        if one.model == "trained"
    ]


def _read(folder: RunFolder) -> list[Evaluation]:
    from mlcore.results import from_document

    content = folder.read_json(folder.evaluation)
    try:
        return from_document(content)
    except DataError as error:
        raise DataError(f"{folder.evaluation}: {error}") from error


def _short_names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, or whole paths where names are the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
