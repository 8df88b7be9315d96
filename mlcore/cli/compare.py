"""``mlcore compare``: train losses on the same tuples with the same budget, and rank them.

Each run is a run folder of its own, so that a comparison that was stopped or killed goes on
with the same command, and more losses and seeds add to what is there. For one seed, every
loss sees the same tuples in the same order: they depend on seed and sampling alone.
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from mlcore.cli import console
from mlcore.cli.running import STOPPED, train_and_judge
from mlcore.errors import ConfigError, DataError, NonFiniteLossError
from mlcore.files import atomic_write
from mlcore.options import Parser, RunConfig, parse_run, run_to_toml
from mlcore.records import RunFolder
from mlcore.registry import Registry

if TYPE_CHECKING:
    from mlcore.comparison import Entry
    from mlcore.results import Evaluation

T = TypeVar("T")

_PER_LOSS = ("--loss", "--influence", "--miner", "--seed")
_FAILURE = "failure.json"


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
        rates = _learning_rates(own, configs, registry)
        entries = _entries(own, configs, rates, registry)
    except _Stopped as stopped:
        console.say("Stopped and saved; the same command goes on from here")
        return stopped.code
    _report(own, entries)
    return 0


def _own_parser() -> Parser:
    parser = Parser(
        "compare",
        "Train several losses on the same tuples with the same budget, and rank them. "
        "Takes the options of mlcore train; they hold for every loss.",
    )
    parser.add_argument(
        "--losses",
        type=_names,
        required=True,
        metavar="LOSS[+INFLUENCE],...",
        help="what to compare; the others are compared with the first",
    )
    parser.add_argument(
        "--seeds", type=_seeds, default=(0,), metavar="INT,...", help="(default: 0)"
    )
    parser.add_argument(
        "--learning-rates",
        type=_rates,
        default=(),
        metavar="FLOAT,...",
        help="choose each loss's rate among these: best area under the accuracy curve on "
        "validation after half the steps, with the first seed",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    parser.add_argument("--json", action="store_true", help="print comparison.json")
    parser.add_block_option()
    return parser


def _configs(
    own: Namespace, rest: Sequence[str], registry: Registry, own_options: Sequence[str]
) -> dict[str, RunConfig]:
    """Return each loss's configuration with the first seed: every mistake is told now."""
    for word in rest:
        if word.partition("=")[0] in _PER_LOSS:
            raise ConfigError(f"{word} has no place in a comparison; use --losses and --seeds")
    configs = {}
    for name in own.losses:
        loss, _, influence = name.partition("+")
        words = ["--loss", loss, "--seed", str(own.seeds[0])]
        words += ["--influence", influence] if influence else []
        configs[name] = parse_run([*rest, *words], registry, own_options=own_options)
    return configs


def _remember_plan(own: Namespace, configs: Mapping[str, RunConfig]) -> None:
    """Keep the options of every loss; refuse to go on with others."""
    own.out.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(own.out)
    path = own.out / "plan.json"
    if not path.exists() and any(own.out.iterdir()):
        raise ConfigError(f"--out {own.out} is not empty and holds no comparison")
    plan = {
        name: {
            "options": run_to_toml(replace(config, seed=0)),
            "learning_rates": list(own.learning_rates),
        }
        for name, config in configs.items()
    }
    before = folder.read_json(path) if path.exists() else {}
    for name in set(plan) & set(before):
        if plan[name] != before[name]:
            raise ConfigError(
                f"--out {own.out} holds runs of {name!r} with other options "
                f"(see {path}); choose another folder"
            )
    folder.write_json(path, before | plan)


def _learning_rates(
    own: Namespace, configs: Mapping[str, RunConfig], registry: Registry
) -> dict[str, float]:
    """Return each loss's learning rate, searched on validation if several are given."""
    from mlcore.comparison import AREA_M

    rates = {name: config.training.learning_rate for name, config in configs.items()}
    for name, config in configs.items():
        scores = {}
        for rate in own.learning_rates:
            steps = max(1, config.training.max_steps // 2)
            training = replace(config.training, learning_rate=rate, max_steps=steps)
            judged = replace(config.evaluation, baselines=False)
            found = _one(
                replace(config, training=training, evaluation=judged),
                own.out / "search" / f"{name}-rate-{rate:g}",
                registry,
                split="validation",
            )
            scores[rate] = -1.0 if isinstance(found, str) else found[-1].area(AREA_M)
            console.say(f"{name}, learning rate {rate:g}: area {100 * scores[rate]:.1f} %")
        if scores:
            rates[name] = max(scores, key=lambda rate: scores[rate])
    return rates


def _entries(
    own: Namespace,
    configs: Mapping[str, RunConfig],
    rates: Mapping[str, float],
    registry: Registry,
) -> list[Entry]:
    """Run whatever is not there yet; return the baselines and the losses."""
    from mlcore.comparison import Entry

    found: dict[str, dict[int, Evaluation]] = {}
    failures: dict[str, dict[int, str]] = {}
    for number, seed in enumerate(own.seeds):  # seed by seed: a stopped table has all losses
        for place, (name, config) in enumerate(configs.items()):
            done = number * len(configs) + place
            console.say(
                f"Run {done + 1} of {len(own.seeds) * len(configs)}: {name}, seed {seed}"
            )
            training = replace(config.training, learning_rate=rates[name])
            # One loss's runs bring the baselines, which are the same for all.
            judged = replace(config.evaluation, baselines=place == 0)
            one = replace(config, seed=seed, training=training, evaluation=judged)
            results = _one(one, own.out / "runs" / f"{name}-seed-{seed}", registry)
            if isinstance(results, str):
                failures.setdefault(name, {})[seed] = results
                continue
            for result in results:
                row = name if result.model == "trained" else result.model
                found.setdefault(row, {})[seed] = replace(result, model=row)
    _require_same_versions(own.out / "runs")
    names = [*configs, *(row for row in found if row not in configs)]
    return [
        Entry(
            name=name,
            evaluations=found.get(name, {}),
            failures=failures.get(name, {}),
            learning_rate=rates.get(name),
        )
        for name in names
    ]


def _one(
    config: RunConfig,
    out: Path,
    registry: Registry,
    split: Literal["test", "validation"] = "test",
) -> list[Evaluation] | str:
    """Return a run's results, from disk if it is finished, or why it diverged."""
    from mlcore.results import from_document

    folder = RunFolder(out)
    if folder.evaluation.exists():
        return from_document(folder.read_json(folder.evaluation))
    if (out / _FAILURE).exists():
        return str(folder.read_json(out / _FAILURE)["error"])
    try:
        ending, results = train_and_judge(
            config, registry, out, new=not folder.config.exists(), split=split
        )
    except NonFiniteLossError as error:
        folder.write_json(out / _FAILURE, {"error": str(error)})
        console.say(f"{out.name} diverged: {error}")
        return str(error)
    if ending != "finished":
        raise _Stopped(ending)
    return results


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


def _report(own: Namespace, entries: Sequence[Entry]) -> None:
    from mlcore.comparison import to_document
    from mlcore.reporting.comparison import comparison_table, save_comparison

    reference = entries[0]
    document = to_document(entries, reference)
    RunFolder(own.out).write_json(own.out / "comparison.json", document)
    save_comparison(entries, own.out / "metres.png")
    table = comparison_table(entries, reference)
    with atomic_write(own.out / "table.txt") as file:
        file.write(console.as_text(table).encode())
    if own.json:
        console.write_json(document)
    else:
        console.show(table)
    console.say(f"Written: {own.out / 'comparison.json'}, metres.png and table.txt beside it")


def _names(text: str) -> tuple[str, ...]:
    return _distinct(text, str)


def _seeds(text: str) -> tuple[int, ...]:
    return _distinct(text, int)


def _rates(text: str) -> tuple[float, ...]:
    return _distinct(text, float)


def _distinct(text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    try:
        values = [kind(word) for word in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no comma-separated list: {error}") from error
    if len(set(values)) < len(values):
        raise ArgumentTypeError(f"{text!r} has one of them twice")
    return tuple(values)
