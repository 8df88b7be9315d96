"""``mlcore new-plugin NAME``: writes a package with a loss, ready to install."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from mlcore import __version__
from mlcore.cli import console
from mlcore.errors import ConfigError
from mlcore.factories import LossFactory
from mlcore.hookspecs import HOOK_API_VERSION
from mlcore.options.commands import Parser
from mlcore.registry import Registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "src/$package/__init__.py": "init.py.txt",
    "src/$package/plugin.py": "plugin.py.txt",
    "src/$package/loss.py": "loss.py.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
}
"""Each file of the package and the template it is made of."""


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = Parser("new-plugin", "Write a package with a loss of your own.")
    parser.add_argument("name", metavar="NAME", help="of the loss and the package: my-loss")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to write it to (default: NAME)"
    )
    options = parser.parse_command(argv)
    folder = options.out or Path(options.name)
    _check(options.name, folder)
    for path in write_plugin(options.name, folder):
        console.write(str(path))
    console.say(
        f"\nnext: python -m pip install -e {folder}\n"
        f"      mlcore plugins --check {options.name}\n"
        f"      mlcore train --loss {options.name}"
    )
    return 0


def write_plugin(name: str, folder: Path) -> list[Path]:
    """Write the package of a loss called ``name`` and return its files."""
    words = {
        "name": name,
        "package": name.replace("-", "_"),
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "api": str(HOOK_API_VERSION),
        "version": __version__,
    }
    templates = resources.files("mlcore.cli") / "plugin_template"
    written = []
    for target, template in _FILES.items():
        path = folder / Template(target).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (templates / template).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(path)
    return written


def _check(name: str, folder: Path) -> None:
    """Raise ConfigError where the package could not be installed or used."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a kebab-case name such as 'my-loss'")
    if folder.exists():
        raise ConfigError(f"{folder} exists already; choose another --out")
    package = name.replace("-", "_")
    if find_spec(package) is not None:
        raise ConfigError(f"a Python package {package!r} is installed already; rename yours")
    taken = {
        known: plugin
        for plugin, factory in Registry.discover().factories(LossFactory)
        for known in (factory.name, *factory.aliases)
    }
    if name in taken:
        raise ConfigError(
            f"the plugin {taken[name]!r} provides a loss {name!r} already; rename yours"
        )
