"""``mlcore compare``: train losses on the same tuples with the same budget, and rank them.

Each run has its own run folder, so that the same command continues a comparison that was
stopped or killed, and losses and seeds can be added later. With the same seed, every loss sees
the same tuples in the same order, because they depend only on seed and sampling options.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlcore.cli import console, variants
from mlcore.cli.comparison_folder import ComparisonFolder
from mlcore.cli.launchers import Launch, Task, on_slurm, one_by_one, several_at_once
from mlcore.cli.parser import Parser
from mlcore.cli.train_run import STOPPED
from mlcore.cli.variants import PartialOption, Row, configure
from mlcore.errors import ConfigError, DataError, Terminated
from mlcore.files import atomic_write
from mlcore.options import Command, RawOption, RunConfig, run_to_toml, with_files
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Group

    from mlcore.evaluation.comparison import Entry
    from mlcore.evaluation.results import Evaluation

_CONTINUE = "Stopped and saved; run the same command again to continue"
_PER_ROW = {
    "loss": "--losses",
    "influence": "--losses LOSS+INFLUENCE",
    "miner": "each loss's default miner",
    "seed": "--seeds",
}


class Stopped(Exception):  # noqa: N818 - not an error: the user asked for it
    """A run of the comparison was stopped; the same command continues.

    Attributes:
        code: Exit code of the command.
    """

    def __init__(self, ending: str) -> None:
        self.code = STOPPED[ending]


class Compared(NamedTuple):
    """What a comparison found.

    Attributes:
        entries: The rows; the others are compared with the first.
        document: The content of ``comparison.json``.
        notes: What holds for some rows only.
    """

    entries: list[Entry]
    document: dict[str, Any]
    notes: tuple[str, ...]


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    own, options = parser.parse_with_run_options(argv)
    try:
        found = compare(own, options, parser.command)
    except Stopped as stopped:
        return stopped.code
    if own.json:
        console.write_json(found.document)
    else:
        console.show(tables_of(found))
    for note in found.notes:
        console.say(note)
    console.say(f"Written: {own.out / 'comparison.json'}, metres.png and table.txt beside it")
    return 0


def compare(own: Namespace, options: Sequence[RawOption], command: Command) -> Compared:
    """Train and evaluate what the command's flags say, and write the comparison.

    Raises:
        MlcoreError: An option is wrong, or a run failed.
        Stopped: A run was stopped by a signal.
    """
    registry = Registry.discover(block=own.block)
    _require_usable(own, options)
    given = with_files(options)
    if own.seeds is None:
        own.seeds = (next((o.value for o in reversed(given) if o.key == "seed"), 0),)
    given.append(RawOption(section="", option="seed", value=str(own.seeds[0])))
    configs, partial = configure(own.losses, own.vary, given, registry, command)
    if not all(config.training.evaluate for config in configs.values()):
        raise ConfigError("training.evaluate must be true in a comparison of evaluations")
    folder = ComparisonFolder(own.out)
    with folder.lock():
        by_name = {row.name: replace(config, seed=0) for row, config in configs.items()}
        names = folder.add_rows(by_name, own.learning_rates, own.split)
        try:
            with _launcher(own) as launch:
                rates = _learning_rates(own, folder, configs, launch)
                _do(_tasks(own, folder, configs, rates), launch, "runs")
        except (Stopped, KeyboardInterrupt, Terminated):
            console.say(_CONTINUE)
            raise
        _require_same_versions(folder.runs)
        return _written(own, configs, _entries(folder, names), partial)


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser(
        "compare",
        "Train several losses on the same tuples with the same budget, and rank them. "
        "Takes the options of 'mlcore train'; each holds for the losses that have it.",
        usage="mlcore compare --losses LOSS,... --out DIR [--seeds INT,...] [option ...]",
        takes_run_options=True,
    )
    parser.add_argument(
        "--losses",
        type=variants.names,
        required=True,
        metavar="LOSS[+INFLUENCE],...",
        help="losses to compare; the others are compared with the first",
    )
    parser.add_argument(
        "--seeds", type=variants.seeds, metavar="INT,...", help="seeds of the runs (default: 0)"
    )
    parser.add_argument(
        "--vary",
        type=variants.variation,
        action="append",
        default=[],
        metavar="OPTION,...=VALUE,...",
        help="one row per value, as in influence.cutoff_m=10,15; options joined by a comma "
        "take the same value; if repeated, one row per combination",
    )
    parser.add_argument(
        "--learning-rates",
        type=variants.rates,
        default=(),
        metavar="FLOAT,...",
        help="choose the learning rate of each row among these: the largest area under the "
        "accuracy curve on validation after half the steps, with the first seed",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="split the rows are evaluated on (default: test)",
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the comparison"
    )
    _add_launch_options(parser)
    parser.add_json_option()
    parser.add_block_option()
    return parser


def _add_launch_options(parser: Parser) -> None:
    """Add the options that say where the runs are executed."""
    parser.add_argument(
        "--parallel",
        type=int,
        metavar="N",
        help="runs at the same time (default: 1; with slurm: all)",
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="local: on this machine; slurm: as SLURM jobs, through submitit (default: local)",
    )
    parser.add_argument(
        "--slurm",
        type=variants.settings,
        default={},
        metavar="KEY=VALUE,...",
        help="options of sbatch, as in time=120,partition=gpu,gpus_per_node=1",
    )


def _require_usable(own: Namespace, options: Sequence[RawOption]) -> None:
    for item in options:
        if (item.chooses and item.section in _PER_ROW) or item.key == "seed":
            instead = _PER_ROW[item.section or "seed"]
            raise ConfigError(f"{item.label} cannot be used in a comparison; use {instead}")
    if own.parallel is not None and own.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, got {own.parallel}")
    if own.slurm and own.launcher != "slurm":
        raise ConfigError("--slurm needs --launcher slurm")


def _launcher(own: Namespace) -> AbstractContextManager[Launch]:
    if own.launcher == "slurm":
        return on_slurm(own.parallel, own.out / "jobs", own.slurm)
    if (own.parallel or 1) > 1:
        return several_at_once(own.parallel, own.out / "logs")
    return one_by_one()


def _do(tasks: Sequence[Task], launch: Launch, what: str) -> None:
    """Run the tasks that have not finished.

    Raises:
        Stopped: The user stopped one.
    """
    todo = [task for task in tasks if not task.has_ended]
    done = len(tasks) - len(todo)
    if not todo:
        return
    there = f", {done} of them already done" if done else ""
    console.say(f"{len(tasks)} {what}{there}")
    for task, ending in launch(todo):
        if ending in STOPPED:
            raise Stopped(ending)
        done += 1
        console.say(f"{done} of {len(tasks)} {what}: {task.out.name} {_outcome(task)}")


def _outcome(task: Task) -> str:
    results = task.results()
    if isinstance(results, str):
        return f"diverged: {results}"
    return f"has area {100 * _area(results):.1f} %"


def _area(results: Sequence[Evaluation]) -> float:
    trained = next(result for result in results if result.model == "trained")
    return trained.area(trained.protocol.area_limit_m)


def _learning_rates(
    own: Namespace, folder: ComparisonFolder, configs: Mapping[Row, RunConfig], launch: Launch
) -> dict[Row, float]:
    """Return each row's learning rate, searched on validation if several are given."""
    tasks: dict[tuple[Row, float], Task] = {}
    for row, config in configs.items():
        for rate in own.learning_rates:
            steps = max(1, config.training.max_steps // 2)
            training = replace(config.training, learning_rate=rate, max_steps=steps)
            evaluation = replace(config.evaluation, baselines=False)
            tasks[row, rate] = Task(
                config=run_to_toml(replace(config, training=training, evaluation=evaluation)),
                out=folder.search / f"{row.folder}-rate-{rate:g}",
                split="validation",
                block=tuple(own.block),
            )
    _do(list(tasks.values()), launch, "runs to choose learning rates")
    chosen = {row: config.training.learning_rate for row, config in configs.items()}
    areas: dict[Row, dict[float, float]] = {}
    for (row, rate), task in tasks.items():
        results = task.results()
        area = -1.0 if isinstance(results, str) else _area(results)
        areas.setdefault(row, {})[rate] = area
    return chosen | {
        row: max(by_rate, key=by_rate.__getitem__) for row, by_rate in areas.items()
    }


def _tasks(
    own: Namespace,
    folder: ComparisonFolder,
    configs: Mapping[Row, RunConfig],
    rates: Mapping[Row, float],
) -> list[Task]:
    """Return the runs, seed by seed: a comparison that was stopped has all rows."""
    tasks = []
    for seed in own.seeds:
        for place, (row, config) in enumerate(configs.items()):
            training = replace(config.training, learning_rate=rates[row])
            # Only one row evaluates the baselines, which are the same for all rows.
            evaluation = replace(config.evaluation, baselines=place == 0)
            one = replace(config, seed=seed, training=training, evaluation=evaluation)
            task = Task(
                config=run_to_toml(one),
                out=folder.runs / f"{row.folder}-seed-{seed}",
                split=own.split,
                block=tuple(own.block),
            )
            tasks.append(task)
    return tasks


def _entries(folder: ComparisonFolder, names: Sequence[str]) -> list[Entry]:
    """Return every row of the folder with all its seeds, then the baselines."""
    from mlcore.evaluation.comparison import Entry

    found: dict[str, dict[int, Evaluation]] = {name: {} for name in names}
    failures: dict[str, dict[int, str]] = {}
    rates: dict[str, float] = {}
    for name in names:
        for seed, task in folder.tasks(name).items():
            rates[name] = task.learning_rate
            results = task.results()
            if isinstance(results, str):
                failures.setdefault(name, {})[seed] = results
                continue
            for result in results:
                shown = name if result.model == "trained" else result.model
                found.setdefault(shown, {}).setdefault(seed, replace(result, model=shown))
    return [
        Entry(
            name=name,
            evaluations=evaluations,
            failures=failures.get(name, {}),
            learning_rate=rates.get(name),
        )
        for name, evaluations in found.items()
        if evaluations or name in failures
    ]


def _require_same_versions(runs: Path) -> None:
    """Refuse runs made by different versions of mlcore or its dependencies."""
    first: tuple[Path, Any] | None = None
    for path in sorted(runs.glob("*/environment.json")):
        environment = RunFolder(path.parent).read_json(path)
        versions = {"mlcore": environment["mlcore"], **environment["versions"]}
        if first is None:
            first = path, versions
        for part, version in versions.items():
            if first[1].get(part) != version:
                raise DataError(
                    f"{first[0]} and {path} cannot be compared: they were made with {part} "
                    f"{first[1].get(part)} and {version}; remove the older runs, or choose "
                    "another folder"
                )


def tables_of(found: Compared) -> Group:
    """Return the tables that the command shows."""
    from rich.console import Group

    from mlcore.reporting.comparison import comparison_tables

    partial = [
        str(PartialOption(one["option"], tuple(one["rows"])))
        for one in found.document.get("options_of_some_rows", ())
    ]
    return Group(comparison_tables(found.entries, found.entries[0]), *partial)


def _written(
    own: Namespace,
    configs: Mapping[Row, RunConfig],
    entries: list[Entry],
    partial: Sequence[PartialOption],
) -> Compared:
    """Write ``comparison.json``, the figure and the table; return what they hold."""
    from mlcore.evaluation.comparison import to_document
    from mlcore.reporting.comparison import save_comparison

    document = to_document(entries, entries[0])
    if partial:
        document["options_of_some_rows"] = [one._asdict() for one in partial]
    found = Compared(entries, document, tuple(_notes(own, configs)))
    RunFolder(own.out).write_json(own.out / "comparison.json", document)
    save_comparison(entries, own.out / "metres.png")
    with atomic_write(own.out / "table.txt") as file:
        file.write(console.as_text(tables_of(found)).encode())
    return found


def _notes(own: Namespace, configs: Mapping[Row, RunConfig]) -> Iterator[str]:
    """Yield in what the rows differ beside their losses."""
    if any(
        config.sampling.uses_embeddings and config.sampling.hard_features == "live"
        for config in configs.values()
    ):
        yield (
            "Each row trained on its own hard images or cliques (--sampling.hard_features "
            "live); anchors and candidate images are the same in all rows"
        )
    if any(option.startswith("sampling.") for one in own.vary for option in one.options):
        yield "Rows with different --sampling.* did not see the same tuples"
