"""Train, evaluate, compare and use models from Python, with the options of the command line.

``import mlcore`` offers everything here and imports no torch; the functions import what they
need when they are called. Options are keyword arguments: ``loss="triplet"`` chooses a
component, ``training={"max_steps": 100}`` sets options as a TOML file does, and
``**{"loss.margin": 0.2}`` as the command line does. Errors are those of the command line:
:class:`mlcore.ConfigError` for options, :class:`mlcore.DataError` for files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mlcore.api.matches import Matches
from mlcore.api.model import StrPath, TrainedModel, load_run, several
from mlcore.api.results import Comparison, RunResult
from mlcore.errors import ConfigError, Terminated
from mlcore.options import RawOption, command_line_option, python_options

__all__ = [
    "Comparison",
    "Matches",
    "RunResult",
    "TrainedModel",
    "compare",
    "evaluate",
    "load_run",
    "train",
]


def train(
    *,
    config: StrPath | Sequence[StrPath] = (),
    out: StrPath | None = None,
    resume: StrPath | None = None,
    accept_changes: Sequence[Literal["data", "code", "config"]] = (),
    block: Sequence[str] = (),
    **options: Any,
) -> RunResult:
    """Train a model and evaluate it, as ``mlcore train`` does, in this process.

    Args:
        config: TOML files with options; later ones hold, and ``options`` before them.
        out: The run folder, new or empty; by default one in ``runs/``.
        resume: Continue the run in this folder instead.
        accept_changes: With ``resume``: kinds of changes that are accepted.
        block: Plugins not to load.
        options: Those of the run.

    Raises:
        ConfigError: An option is wrong, or the folder is not free.
        DataError: The data set cannot be used.
        NonFiniteLossError: The loss or its gradient is not finite.
        KeyboardInterrupt: Training was interrupted; its state is saved, ``resume`` continues.
    """
    from mlcore.cli.commands.train import default_folder
    from mlcore.cli.train_run import train_and_evaluate
    from mlcore.options import require_effect, resolve_run
    from mlcore.registry.discovery import Registry
    from mlcore.run_folder import RunFolder

    given = [*_files(config), *python_options(options)]
    registry = Registry.discover(block=block)
    if resume is not None:
        if out is not None or config:
            raise ConfigError("resume continues in the run's own folder with its own options")
        folder = RunFolder.open(Path(resume))
        given = [*_files(folder.config), *given]
    elif accept_changes:
        raise ConfigError("accept_changes only works with resume")
    resolved = resolve_run(given, registry)
    require_effect([resolved], given)
    if resume is None:
        folder = RunFolder(default_folder(resolved) if out is None else Path(out))
        RunFolder.require_free(folder.path)
    ending, results, warnings = train_and_evaluate(
        resolved,
        registry,
        folder.path,
        new=resume is None,
        accepted=tuple(accept_changes),
        given=given,
    )
    if ending == "interrupted":
        raise KeyboardInterrupt(f"stopped and saved; resume={str(folder.path)!r} continues")
    if ending == "terminated":
        raise Terminated
    return RunResult(folder.path, folder.evaluation, tuple(results), tuple(warnings))


def evaluate(
    run: StrPath,
    *,
    split: Literal["test", "validation"] = "test",
    out: StrPath | None = None,
    block: Sequence[str] = (),
    **options: Any,
) -> RunResult:
    """Evaluate a trained run again, as ``mlcore evaluate`` does.

    Args:
        run: The run folder; its data set must be there.
        split: Split of the data set.
        out: File of the results; by default one in the run's folder.
        block: Plugins not to load.
        options: ``dataset`` and ``evaluation``; options of the latter also by their own names,
            such as ``whitening="none"``.

    Raises:
        ConfigError: An option is wrong, or cannot be changed after training.
        DataError: The run has no intact checkpoint, or its data set cannot be used.
    """
    from mlcore.cli.commands.evaluate import evaluate as evaluate_run
    from mlcore.cli.commands.evaluate import make_parser

    words = [os.fspath(run), "--split", split, *_block(block)]
    words += [] if out is None else ["--out", os.fspath(out)]
    parser = make_parser()
    own = parser.parse_command(words)
    results, path = evaluate_run(own, python_options(options), parser.command)
    return RunResult(Path(run), path, tuple(results))


def compare(
    losses: Sequence[str],
    *,
    out: StrPath,
    seeds: Sequence[int] | None = None,
    vary: Mapping[str, Iterable[Any]] | None = None,
    learning_rates: Sequence[float] = (),
    split: Literal["test", "validation"] = "test",
    config: StrPath | Sequence[StrPath] = (),
    block: Sequence[str] = (),
    **options: Any,
) -> Comparison:
    """Train losses on the same tuples and rank them, as ``mlcore compare`` does.

    The runs take place one after the other in this process; run ``mlcore compare`` for several
    at once or on a cluster. What is in ``out`` already is not computed again.

    Args:
        losses: Names, such as ``["proposed", "triplet", "proposed+linear"]``; the others are
            compared with the first.
        out: Folder of the comparison.
        seeds: Seeds of the runs; by default that of ``options``.
        vary: One row per value: ``{"influence.cutoff_m": [10, 15]}``.
        learning_rates: Choose each row's among these, on validation.
        split: Split that the rows are evaluated on.
        config: TOML files with options.
        block: Plugins not to load.
        options: Those of the runs; each holds for the losses that have it.

    Raises:
        ConfigError: An option is wrong, or ``out`` holds another comparison.
        DataError: The data set cannot be used.
        KeyboardInterrupt: A run was interrupted; the same call continues.
    """
    from mlcore.cli.commands.compare import Stopped, make_parser
    from mlcore.cli.commands.compare import compare as compare_losses

    words = [
        "--losses",
        losses if isinstance(losses, str) else ",".join(losses),
        "--out",
        os.fspath(out),
        "--split",
        split,
    ]
    if isinstance(seeds, int):
        raise ConfigError(f"seeds must be a list of numbers, such as [{seeds}], got {seeds}")
    words += [] if seeds is None else ["--seeds", ",".join(map(str, seeds))]
    words += ["--learning-rates", ",".join(map(str, learning_rates))] if learning_rates else []
    for option, values in (vary or {}).items():
        words += ["--vary", f"{option}={','.join(map(str, values))}"]
    parser = make_parser()
    own = parser.parse_command([*words, *_block(block)])
    try:
        found = compare_losses(own, [*_files(config), *python_options(options)], parser.command)
    except Stopped as stopped:
        raise KeyboardInterrupt("stopped and saved; the same call continues") from stopped
    return Comparison(Path(out), found)


def _files(config: StrPath | Sequence[StrPath]) -> list[RawOption]:
    return [command_line_option("--config", os.fspath(path)) for path in several(config)]


def _block(names: Sequence[str]) -> list[str]:
    return [word for name in names for word in ("--block", name)]
