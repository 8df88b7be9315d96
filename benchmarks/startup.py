"""How long the command line takes to answer, compared with an empty Python.

Each command runs in a fresh process, with compiled bytecode on disk. Some rows have 50 more
plugins installed, each a distribution of its own with one loss.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import _common as common

DURATION = "1 minute"
NUM_PLUGINS = 50

EMPTY = "python -c pass"
COMMANDS = {
    EMPTY: ("-c", "pass"),
    "mlcore --help": ("-m", "mlcore", "--help"),
    "mlcore plugins": ("-m", "mlcore", "plugins"),
    "mlcore list losses": ("-m", "mlcore", "list", "losses"),
}

_MODULE = '''
from dataclasses import dataclass
import mlcore

@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        margin: Margin of the embedding distance.
        cutoff_m: Distance in metres.
    """

    margin: float = 0.1
    cutoff_m: float = 15.0

@mlcore.hookimpl
def mlcore_losses():
    return [mlcore.LossFactory(name="NAME", summary="a loss", config=Config, build=print)]
'''


def main(argv: Sequence[str]) -> int:
    """Time each command with and without the additional plugins."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    repeats = 3 if options.quick else 20
    with tempfile.TemporaryDirectory() as folder:
        install_plugins(Path(folder))
        runs: dict[str, Callable[[], object]] = {}
        for label, words in COMMANDS.items():
            runs[label] = partial(common.run_python, *words)
            if label != EMPTY:
                runs[f"{label}, {NUM_PLUGINS} more plugins"] = partial(
                    common.run_python, *words, environment={"PYTHONPATH": folder}
                )
        timings = common.measure(runs, repeats=repeats, warmup=1)
    bare = timings[EMPTY].median
    rows = [
        (f"`{label}`", timing, f"{1e3 * (timing.median - bare):+.1f} ms")
        for label, timing in timings.items()
    ]
    common.report(
        __file__,
        __doc__ or "",
        common.markdown_table(["command", "wall time", f"more than {EMPTY}"], rows),
        options=options,
        argv=argv,
        method=f"1 warm-up, {repeats} repeats, interleaved; median [smallest, largest]",
    )
    return 0


def install_plugins(folder: Path) -> None:
    """Write the plugins to ``folder`` as pip would install them, one distribution each."""
    for number in range(NUM_PLUGINS):
        name = f"startup-plugin-{number}"
        module = name.replace("-", "_")
        (folder / f"{module}.py").write_text(_MODULE.replace("NAME", name))
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mlcore.plugins]\n{name} = {module}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
