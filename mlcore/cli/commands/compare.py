"""``mlcore compare``: train losses on the same tuples with the same budget, and rank them.

Each run is a run folder of its own, so that a comparison that was stopped or killed goes on
with the same command, and more losses and seeds add to what is there. For one seed, every
loss sees the same tuples in the same order: they depend on seed and sampling alone.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.cli import console, variants
from mlcore.cli.launchers import Launch, Task, on_slurm, one_by_one, several_at_once
from mlcore.cli.main import Terminated
from mlcore.cli.parser import Parser
from mlcore.cli.train_run import STOPPED
from mlcore.cli.variants import Row
from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.options import RunConfig, parse_run, run_to_toml
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.evaluation.comparison import Entry
    from mlcore.evaluation.results import Evaluation

_GO_ON = "Stopped and saved; the same command goes on from here"
_PER_LOSS = ("--loss", "--influence", "--miner", "--seed")


class _Stopped(Exception):  # noqa: N818 - no error: the user asked for it
    def __init__(self, ending: str) -> None:
        self.code = STOPPED[ending]


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = _own_parser()
    own, rest = parser.parse_known_args(argv)
    registry = Registry.discover(block=own.block)
    configs = _configs(own, rest, registry, parser.option_names())
    _remember_plan(own, configs)
    try:
        with _launcher(own) as launch:
            rates = _learning_rates(own, configs, launch)
            tasks = _tasks(own, configs, rates)
            _do(list(tasks.values()), launch, "runs")
    except _Stopped as stopped:
        console.say(_GO_ON)
        return stopped.code
    except (KeyboardInterrupt, Terminated):
        console.say(_GO_ON)
        raise
    _require_same_versions(own.out / "runs")
    _report(own, configs, _entries(tasks, rates))
    return 0


def _own_parser() -> Parser:
    parser = Parser(
        "compare",
        "Train several losses on the same tuples with the same budget, and rank them. "
        "Takes the options of mlcore train; they hold for every loss.",
    )
    parser.add_argument(
        "--losses",
        type=variants.names,
        required=True,
        metavar="LOSS[+INFLUENCE],...",
        help="what to compare; the others are compared with the first",
    )
    parser.add_argument(
        "--seeds", type=variants.seeds, default=(0,), metavar="INT,...", help="(default: 0)"
    )
    parser.add_argument(
        "--vary",
        type=variants.variation,
        action="append",
        default=[],
        metavar="OPTION,...=VALUE,...",
        help="a row for each value, as in influence.cutoff_m=10,15; options joined by a "
        "comma take the same value; given twice, every combination is a row",
    )
    parser.add_argument(
        "--learning-rates",
        type=variants.rates,
        default=(),
        metavar="FLOAT,...",
        help="choose each row's rate among these: best area under the accuracy curve on "
        "validation after half the steps, with the first seed",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="split that the rows are evaluated on (default: test)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    parser.add_argument(
        "--parallel", type=int, metavar="N", help="runs at once (default: 1; slurm: all)"
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="where the runs are done: here, or as SLURM jobs through submitit",
    )
    parser.add_argument(
        "--slurm",
        type=variants.settings,
        default={},
        metavar="KEY=VALUE,...",
        help="options of sbatch, as in time=120,partition=gpu,gpus_per_node=1",
    )
    parser.add_argument("--json", action="store_true", help="print comparison.json")
    parser.add_block_option()
    return parser


def _configs(
    own: Namespace, rest: Sequence[str], registry: Registry, own_options: Sequence[str]
) -> dict[Row, RunConfig]:
    """Return each row's configuration with the first seed: every mistake is told now."""
    for word in rest:
        if word.partition("=")[0] in _PER_LOSS:
            raise ConfigError(f"{word} has no place in a comparison; use --losses and --seeds")
    if own.parallel is not None and own.parallel < 1:
        raise ConfigError(f"--parallel must be at least 1, got {own.parallel}")
    if own.slurm and own.launcher != "slurm":
        raise ConfigError("--slurm needs --launcher slurm")
    seed = ["--seed", str(own.seeds[0])]
    return {
        row: parse_run([*rest, *seed, *row.words], registry, own_options=own_options)
        for row in variants.rows_of(own.losses, own.vary)
    }


def _remember_plan(own: Namespace, configs: Mapping[Row, RunConfig]) -> None:
    """Keep the options of every row; refuse to go on with others."""
    own.out.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(own.out)
    path = own.out / "plan.json"
    if not path.exists() and any(own.out.iterdir()):
        raise ConfigError(f"--out {own.out} is not empty and holds no comparison")
    plan = {
        row.name: {
            "options": run_to_toml(replace(config, seed=0)),
            "learning_rates": list(own.learning_rates),
            "split": own.split,
        }
        for row, config in configs.items()
    }
    before = folder.read_json(path) if path.exists() else {}
    for name, chosen in plan.items():
        if before.get(name, chosen) != chosen:
            raise ConfigError(
                f"--out {own.out} holds runs of {name!r} with other options "
                f"(see {path}); choose another folder"
            )
    folder.write_json(path, before | plan)


def _launcher(own: Namespace) -> AbstractContextManager[Launch]:
    if own.launcher == "slurm":
        return on_slurm(own.parallel, own.out / "jobs", own.slurm)
    if (own.parallel or 1) > 1:
        return several_at_once(own.parallel, own.out / "logs")
    return one_by_one()


def _do(tasks: Sequence[Task], launch: Launch, what: str) -> None:
    """Do the tasks that have not ended.

    Raises:
        _Stopped: The user wants to go on another time.
    """
    todo = [task for task in tasks if not task.has_ended]
    done = len(tasks) - len(todo)
    if not todo:
        return
    there = f", {done} of them there already" if done else ""
    console.say(f"{len(tasks)} {what}{there}")
    for task, ending in launch(todo):
        if ending in STOPPED:
            raise _Stopped(ending)
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
    own: Namespace, configs: Mapping[Row, RunConfig], launch: Launch
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
                out=own.out / "search" / f"{row.folder}-rate-{rate:g}",
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
    own: Namespace, configs: Mapping[Row, RunConfig], rates: Mapping[Row, float]
) -> dict[tuple[Row, int], Task]:
    """Return the runs, seed by seed: a comparison that was stopped has all rows."""
    tasks = {}
    for seed in own.seeds:
        for place, (row, config) in enumerate(configs.items()):
            training = replace(config.training, learning_rate=rates[row])
            # One row's runs bring the baselines, which are the same for all.
            evaluation = replace(config.evaluation, baselines=place == 0)
            one = replace(config, seed=seed, training=training, evaluation=evaluation)
            tasks[row, seed] = Task(
                config=run_to_toml(one),
                out=own.out / "runs" / f"{row.folder}-seed-{seed}",
                split=own.split,
                block=tuple(own.block),
            )
    return tasks


def _entries(tasks: Mapping[tuple[Row, int], Task], rates: Mapping[Row, float]) -> list[Entry]:
    """Return the rows, then the baselines."""
    from mlcore.evaluation.comparison import Entry

    found: dict[str, dict[int, Evaluation]] = {row.name: {} for row in rates}
    failures: dict[str, dict[int, str]] = {}
    for (row, seed), task in tasks.items():
        results = task.results()
        if isinstance(results, str):
            failures.setdefault(row.name, {})[seed] = results
            continue
        for result in results:
            name = row.name if result.model == "trained" else result.model
            found.setdefault(name, {})[seed] = replace(result, model=name)
    by_name = {row.name: rate for row, rate in rates.items()}
    return [
        Entry(
            name=name,
            evaluations=evaluations,
            failures=failures.get(name, {}),
            learning_rate=by_name.get(name),
        )
        for name, evaluations in found.items()
    ]


def _require_same_versions(runs: Path) -> None:
    """Refuse runs that other versions of mlcore or its parts have made."""
    first: tuple[Path, Any] | None = None
    for path in sorted(runs.glob("*/environment.json")):
        environment = RunFolder(path.parent).read_json(path)
        versions = {"mlcore": environment["mlcore"], **environment["versions"]}
        if first is None:
            first = path, versions
        for part, version in versions.items():
            if first[1].get(part) != version:
                raise DataError(
                    f"{first[0]} and {path} cannot be compared: {part} {first[1].get(part)} "
                    f"and {version}; remove the older runs, or start in another folder"
                )


def _report(own: Namespace, configs: Mapping[Row, RunConfig], entries: Sequence[Entry]) -> None:
    from mlcore.evaluation.comparison import to_document
    from mlcore.reporting.comparison import comparison_tables, save_comparison

    reference = entries[0]
    document = to_document(entries, reference)
    RunFolder(own.out).write_json(own.out / "comparison.json", document)
    save_comparison(entries, own.out / "metres.png")
    tables = comparison_tables(entries, reference)
    with atomic_write(own.out / "table.txt") as file:
        file.write(console.as_text(tables).encode())
    if own.json:
        console.write_json(document)
    else:
        console.show(tables)
    if any(
        config.sampling.hard_per_tuple and config.sampling.hard_features == "live"
        for config in configs.values()
    ):
        console.say(
            "Each row trained on hard images of its own (--sampling.hard_features live); the "
            "rows share anchors and the images among which hard ones were sought"
        )
    if any(option.startswith("sampling.") for one in own.vary for option in one.options):
        console.say("Rows that differ in --sampling.* did not see the same tuples")
    console.say(f"Written: {own.out / 'comparison.json'}, metres.png and table.txt beside it")
