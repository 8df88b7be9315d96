"""What every first-party plugin is held to."""

from __future__ import annotations

import subprocess
import sys

from mlcore.testing import CheckSkipped, checks


def assert_kit_runs_whole(plugin, config):
    """All eleven checks of a data set pass, and none is skipped."""
    skipped = []
    found = list(checks(plugin, only="dataset/*", configs={plugin: config}))
    for check in found:
        try:
            check()
        except CheckSkipped as reason:
            skipped.append(f"{check}: {reason}")
    assert skipped == []
    assert len(found) == 11


def imported_by_listing(module, *libraries):
    """Which of the libraries are there once the plugin's module has told what it offers."""
    code = (
        f"import sys, {module} as plugin; plugin.mlcore_datasets(); "
        f"print(*[name for name in {libraries!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.split()
