"""Typed options: dataclass, command line and TOML file.

``mlcore train --loss proposed --loss.beta 40 --config run.toml`` has the options of the
components it chooses and of no others. Each is a field of a frozen dataclass (see
:mod:`mlcore.option_types`); a file has them as ``[loss]`` with ``name = "proposed"`` and
``beta = 40.0``. Order: default < file < command line.
"""

from __future__ import annotations

from mlcore.options.config import COMPONENTS, ENGINE, Chosen, RunConfig
from mlcore.options.run import (
    own_help,
    parse_own,
    parse_run,
    reopen_run,
    run_from_text,
    run_from_toml,
    run_help,
    run_to_toml,
)

__all__ = [
    "COMPONENTS",
    "ENGINE",
    "Chosen",
    "RunConfig",
    "own_help",
    "parse_own",
    "parse_run",
    "reopen_run",
    "run_from_text",
    "run_from_toml",
    "run_help",
    "run_to_toml",
]
