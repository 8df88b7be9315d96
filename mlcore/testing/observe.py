"""``python -m mlcore.testing.observe NAME MODULE``: lists a plugin and tells what it did.

Prints one line of JSON as the last of stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from mlcore.testing.subject import Source


class TorchImport:
    """A finder that finds nothing and notes who first asked for torch."""

    def __init__(self) -> None:
        self.by = ""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Note the line that imports torch; leave finding it to the others."""
        if name == "torch" and not self.by:
            frames = traceback.extract_stack()[:-1]
            callers = [frame for frame in frames if "importlib" not in frame.filename]
            self.by = f"{callers[-1].filename}:{callers[-1].lineno}" if callers else "?"


def observe(name: str, module: str) -> dict[str, Any]:
    """Load a plugin and return what its import and hooks did to this process."""
    watch, printed = TorchImport(), io.StringIO()
    sys.meta_path.insert(0, watch)
    before, started = process_state(), time.perf_counter()
    with contextlib.redirect_stdout(printed):
        Source(name, repr(name), module).load()
    seconds = time.perf_counter() - started
    after = process_state()
    return {
        "torch_by": watch.by,
        "seconds": seconds,
        "printed": printed.getvalue(),
        "changed": [what for what in before if before[what] != after[what]],
    }


def process_state() -> dict[str, object]:
    """Return what of a process is not a plugin's to change, by name."""
    handlers = {
        number.name: signal.getsignal(number)
        for number in signal.valid_signals()
        if isinstance(number, signal.Signals)
    }
    return {
        **{f"the handler of {name}": handler for name, handler in handlers.items()},
        "sys.excepthook": sys.excepthook,
        "warnings.filters": list(warnings.filters),
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),  # noqa: PTH109 - compared, not used
    }


def main(argv: Sequence[str]) -> None:
    """Observe the plugin of the command line and print what was seen."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a signal that a parent ignores is inherited so
    sys.stdout.write("\n" + json.dumps(observe(*argv)))


if __name__ == "__main__":
    main(sys.argv[1:])
