"""Checks of what importing and asking a plugin does to a process, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from mlcore.testing.check import CheckSkipped, Fault, expect
from mlcore.testing.subject import Source

_TIMEOUT_S = 120
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")


def imports_no_torch(source: Source) -> None:
    """Every command lists every plugin; one that imports torch costs each of them seconds."""
    seen = _observe(source.name, source.module)
    expect(
        not seen["torch_by"],
        "a plugin that is listed without importing torch (import it inside build, and in "
        "__init__.py through __getattr__)",
        f"torch imported by {seen['torch_by']}; listing takes {seen['seconds']:.2f} s",
    )


def prints_nothing(source: Source) -> None:
    """What is on stdout belongs to the command, which may print JSON there."""
    seen = _observe(source.name, source.module)
    expect(not seen["printed"], "nothing printed at import or by hooks", repr(seen["printed"]))


def leaves_process_alone(source: Source) -> None:
    """A signal handler of a plugin's takes Ctrl-C away from the run that is to be saved."""
    seen = _observe(source.name, source.module)
    if seen["torch_by"]:
        raise CheckSkipped("it imports torch, which changes some of this itself")
    expect(
        not seen["changed"],
        "signal handlers, sys hooks, warning filters and environment left as they were",
        ", ".join(seen["changed"]) + " changed",
    )


@cache
def _observe(name: str, module: str) -> dict[str, Any]:
    """List a plugin in a fresh process and return what it did there."""
    # Not the whole environment: this process has loaded the plugin, which may have set some.
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "mlcore.testing.observe", name, module],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    try:
        observed: dict[str, Any] = json.loads(done.stdout.rpartition("\n")[2])
    except json.JSONDecodeError as error:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Fault("a plugin that can be listed in a fresh process", last) from error
    observed["printed"] = (observed.pop("printed") + done.stderr)[:200]
    return observed


CHECKS: dict[str, Callable[[Source], None]] = {
    "imports-no-torch": imports_no_torch,
    "prints-nothing": prints_nothing,
    "leaves-process-alone": leaves_process_alone,
}
