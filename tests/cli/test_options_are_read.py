"""An option that nothing reads cannot do anything: every option of every command is read.

This holds for the options' names in the source. That an option also changes something, or is
refused, is tested with the command or component that it belongs to.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import mlcore
from mlcore.cli.main import COMMANDS, module_of
from mlcore.option_types import options_of
from mlcore.options import ENGINE

SOURCE = Path(mlcore.__file__).parent
DEFINITIONS = SOURCE / "options" / "engine.py"


def names_read(paths):
    """Return the attributes that are read, and the texts that may be names of some."""
    found = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr":
                found |= {a.value for a in node.args if isinstance(a, ast.Constant)}
    return found


@pytest.fixture(scope="module")
def read_in_engine():
    return names_read(path for path in SOURCE.rglob("*.py") if path != DEFINITIONS)


@pytest.mark.parametrize("section", ENGINE)
def test_every_option_of_the_engine_is_read(read_in_engine, section):
    assert [o.name for o in options_of(ENGINE[section]) if o.name not in read_in_engine] == []


@pytest.mark.parametrize("command", [*COMMANDS, "data_draft", "data_write"])
def test_every_flag_of_a_command_is_read(command):
    module = importlib.import_module(module_of(command))
    read = names_read([Path(module.__file__), SOURCE / "cli" / "run_arguments.py"])
    dests = [action.dest for action in module.make_parser().actions()]
    assert [dest for dest in dests if dest not in read and dest != "help"] == []


@pytest.mark.parametrize("section", ENGINE)
def test_every_number_of_the_engine_has_a_range(section):
    numbers = [o for o in options_of(ENGINE[section]) if o.type_name.find("float") >= 0]
    numbers += [o for o in options_of(ENGINE[section]) if o.type_name.find("int") >= 0]
    assert [option.name for option in numbers if not str(option.range)] == []
