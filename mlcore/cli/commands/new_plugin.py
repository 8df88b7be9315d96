"""``mlcore new-plugin NAME``: writes a package with a loss, or more, ready to install."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import resources
from importlib.util import find_spec
from keyword import iskeyword
from pathlib import Path
from string import Template

from mlcore import __version__
from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.errors import ConfigError, UnknownNameError
from mlcore.factories import Factory
from mlcore.hookspecs import HOOK_API_VERSION
from mlcore.registry.discovery import Registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

KINDS = {
    "loss": "a loss",
    "miner": "a miner",
    "influence": "an influence function",
    "dataset": "a data set",
    "backbone": "a backbone",
    "pooling": "a pooling",
    "model": "a model",
    "reranker": "a reranker",
}
"""What a package can provide, in the words of its README."""

_FILES = {
    "pyproject.toml": "pyproject.toml.txt",
    "README.md": "README.md.txt",
    "src/$package/__init__.py": "init.py.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
}
"""Files of every package and their templates."""


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("new-plugin", "Create a plugin package with a loss of your own.")
    parser.add_argument(
        "name", metavar="NAME", help="name of the loss and the package, such as my-loss"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to create (default: NAME)"
    )
    parser.add_argument(
        "--provides",
        default="loss",
        metavar="KIND,...",
        help=f"components it provides: {', '.join(KINDS)} (default: loss)",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_command(argv)
    folder, kinds = options.out or Path(options.name), _kinds(options.provides)
    _check(options.name, kinds, folder)
    paths = [str(path) for path in write_plugin(options.name, kinds, folder)]
    if options.json:
        console.write_json({"written": paths})
    else:
        console.write("\n".join(paths))
    console.say(
        f"\nNext: python -m pip install -e {folder}\n"
        f"      mlcore plugins --check {options.name}\n"
        f"      {_use(options.name, kinds)}"
    )
    return 0


def write_plugin(name: str, kinds: Sequence[str], folder: Path) -> list[Path]:
    """Write a package that provides a component of each kind; return its files."""
    words = _substitutions(name, kinds)
    texts = {target: _template(template) for target, template in _FILES.items()}
    parts = ["plugin_head.py.txt", *(f"plugin_{kind}.py.txt" for kind in kinds)]
    texts["src/$package/plugin.py"] = "".join(map(_template, parts))
    for kind in kinds:
        texts[f"src/$package/{kind}.py"] = _template(f"{kind}.py.txt")
    written = []
    for target in sorted(texts):
        path = folder / Template(target).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(texts[target]).substitute(words), encoding="utf-8")
        written.append(path)
    return written


def _substitutions(name: str, kinds: Sequence[str]) -> dict[str, str]:
    """Return the values of the templates' placeholders."""
    package, class_name = name.replace("-", "_"), "".join(map(str.capitalize, name.split("-")))
    return {
        "name": name,
        "package": package,
        "class_name": class_name,
        "api": str(HOOK_API_VERSION),
        "version": __version__,
        "provided": ", ".join(KINDS[kind] for kind in kinds),
        "use": _use(name, kinds),
        "imports": "\n".join(_imports(package, class_name, kinds)),
    }


def _imports(package: str, class_name: str, kinds: Sequence[str]) -> Iterator[str]:
    """Yield the import lines of ``plugin.py``, in the order that linters expect."""
    # An influence function is its own options class and needs no torch.
    lazy = [kind for kind in sorted(kinds) if kind != "influence"]
    if lazy:
        yield from ("from dataclasses import dataclass", "from typing import TYPE_CHECKING", "")
    yield "import mlcore"
    if "model" in kinds:
        yield "from mlcore.models import ModelConfig"
    if "influence" in kinds:
        yield f"from {package}.influence import {class_name}Influence"
    if lazy:
        yield from ("", "if TYPE_CHECKING:")
    for kind in lazy:
        yield f"    from {package}.{kind} import {class_name}{kind.capitalize()}"


def _use(name: str, kinds: Sequence[str]) -> str:
    """Return a command that uses what the package provides."""
    if "loss" in kinds:  # which takes neither a miner nor an influence function
        words = [f"--loss {name}"]
    elif "miner" in kinds:
        words = ["--loss pml-triplet-margin", f"--miner {name}"]
    else:
        words = [f"--influence {name}"] if "influence" in kinds else []
    words += [f"--{kind} {name}" for kind in ("dataset", "model") if kind in kinds]
    if "model" not in kinds:
        words += [f"--{kind} {name}" for kind in ("backbone", "pooling") if kind in kinds]
    if list(kinds) == ["reranker"]:
        return f"mlcore localize MAP IMAGE --reranker {name}"
    return " ".join(["mlcore train", *words])


def _template(name: str) -> str:
    return (resources.files("mlcore.cli") / "plugin_template" / name).read_text("utf-8")


def _kinds(provides: str) -> list[str]:
    chosen = [kind.strip() for kind in provides.split(",")]
    for kind in chosen:
        if kind not in KINDS:
            raise UnknownNameError("kind", kind, KINDS)
    return [kind for kind in KINDS if kind in chosen]


def _check(name: str, kinds: Sequence[str], folder: Path) -> None:
    """Raise ConfigError where the package could not be installed or used."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is not a kebab-case name such as 'my-loss'")
    if folder.exists():
        raise ConfigError(f"{folder} already exists; choose another --out")
    package = name.replace("-", "_")
    if iskeyword(package):
        raise ConfigError(f"{name!r} is a word of the Python language; choose another name")
    if find_spec(package) is not None:
        raise ConfigError(
            f"a Python package {package!r} is already installed; choose another name"
        )
    for plugin, factory in Registry.discover().factories(Factory):
        if factory.kind in kinds and name in (factory.name, *factory.aliases):
            raise ConfigError(
                f"plugin {plugin!r} already provides a {factory.kind} {name!r}; "
                "choose another name"
            )
