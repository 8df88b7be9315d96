"""Typed options: dataclass, command line and TOML file.

``mlcore train --loss proposed --loss.beta 40 --config run.toml`` has the options of the
components it chooses and of no others. Each is a field of a frozen dataclass (see
:mod:`mlcore.option_types`); a file has them as ``[loss]`` with ``name = "proposed"`` and
``beta = 40.0``. Order: default < file < command line.
"""

from __future__ import annotations

from mlcore.options.components import Command, applicable
from mlcore.options.config import COMPONENTS, ENGINE, Chosen, RunConfig
from mlcore.options.effects import refuse_unused, require_dataset_options, require_effect
from mlcore.options.raw import (
    RawOption,
    command_line_option,
    python_options,
    read_argv,
    split_argv,
    with_files,
)
from mlcore.options.run import (
    parse_options,
    parse_run,
    reopen,
    reopen_run,
    resolve_run,
    run_from_text,
    run_from_toml,
    run_help,
    run_sections,
    run_to_toml,
)
from mlcore.options.sections import Section, format_help
from mlcore.options.suggestions import unknown_option

__all__ = [
    "COMPONENTS",
    "ENGINE",
    "Chosen",
    "Command",
    "RawOption",
    "RunConfig",
    "Section",
    "applicable",
    "command_line_option",
    "format_help",
    "parse_options",
    "parse_run",
    "python_options",
    "read_argv",
    "refuse_unused",
    "reopen",
    "reopen_run",
    "require_dataset_options",
    "require_effect",
    "resolve_run",
    "run_from_text",
    "run_from_toml",
    "run_help",
    "run_sections",
    "run_to_toml",
    "split_argv",
    "unknown_option",
    "with_files",
]
