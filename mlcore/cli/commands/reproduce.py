"""``mlcore reproduce RUN``: replay the batch whose loss was not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.options import run_from_toml
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("reproduce", "Replay the batch that stopped a run with a non-finite loss.")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run that stopped")
    parser.add_json_option()
    parser.add_block_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command; exit code 1 if something is not finite again."""
    options = make_parser().parse_command(argv)
    folder = RunFolder.open(options.run)
    config = run_from_toml(folder.config, Registry.discover(block=options.block))

    from mlcore.evaluation.evaluate import device_of
    from mlcore.experiment import assemble
    from mlcore.training.replay import replay

    with console.progress() as progress:
        experiment = assemble(config, progress=progress)
    found = replay(experiment, folder.failed_batch, device_of(config.training.accelerator))
    if options.json:
        # JSON has no NaN: numbers that are not finite become text.
        console.write_json(_plain({**asdict(found), "reproduced": found.reproduced}))
        return int(found.reproduced)
    console.say(f"The run stopped with: {found.message}")
    table = console.table("batch of step", str(found.step))
    table.add_row("images with non-finite embeddings", _listed(found.bad_images))
    table.add_row("loss", f"{found.loss:g}")
    for name, value in found.stats.items():
        table.add_row(f"loss/{name}", value if isinstance(value, str) else f"{value:g}")
    table.add_row("images with non-finite gradient", _listed(found.bad_gradients))
    table.add_row("parameters with non-finite gradient", _listed(found.bad_parameters))
    console.show(table)
    console.write(
        "Reproduced." if found.reproduced else "Not reproduced: everything is finite."
    )
    return int(found.reproduced)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more if names else "none"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, float) and not float("-inf") < value < float("inf"):
        return str(value)
    return value
