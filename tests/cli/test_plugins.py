from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from mlcore import LossFactory
from mlcore.cli.main import main
from mlcore.factories import DatasetFactory, MinerFactory
from mlcore.protocols import Pairs
from mlcore.registry.discovery import Plugin, Registry


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options.

    Attributes:
        margin_m: Margin in metres.
        mode: How.
    """

    margin_m: float | None = None
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No options."""


PLUGINS = [
    Plugin(
        name="twin",
        distribution="twin-losses",
        version="2.0",
        status="ok",
        factories=(
            LossFactory(
                name="twin",
                summary="Two of a kind.",
                config=Config,
                build=print,
                source="Author, Title, 2020",
                aliases=("double",),
                mining="external",
                accepts=Pairs,
                needs=frozenset({"tuples", "positions"}),
                limits={"no-positive": "raises without a positive"},
            ),
            MinerFactory(
                name="twin", summary="Mines.", config=Nothing, build=print, produces=Pairs
            ),
            DatasetFactory(
                name="town", summary="A town.", config=Nothing, build=print, check=print
            ),
        ),
    ),
    Plugin(
        name="broken",
        distribution="broken-losses",
        version="0.1",
        status="failed",
        error="ValueError: of mine",
        traceback="Traceback (most recent call last):\n  somewhere\nValueError: of mine\n",
    ),
    Plugin(name="left", distribution="left-out", version="1", status="blocked"),
]


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    monkeypatch.setattr(Registry, "discover", classmethod(lambda cls, **_: cls(PLUGINS)))


def test_table(capsys):
    assert main(["plugins"]) == 0
    printed = capsys.readouterr().out
    assert "losses: twin; miners: twin; datasets: town" in printed
    assert "twin-losses" in printed
    assert "ValueError: of mine" in printed
    assert "blocked" in printed
    assert "Traceback" not in printed


def test_json(capsys):
    assert main(["plugins", "--json"]) == 0
    twin, broken, left = json.loads(capsys.readouterr().out)
    assert twin["provides"] == [
        {"kind": "loss", "name": "twin"},
        {"kind": "miner", "name": "twin"},
        {"kind": "dataset", "name": "town"},
    ]
    assert (broken["status"], broken["error"]) == ("failed", "ValueError: of mine")
    assert (left["status"], left["version"]) == ("blocked", "1")


def test_a_plugin_and_the_components_of_its_name(capsys):
    assert main(["plugins", "twin"]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    assert printed.startswith("plugin twin: ok, from twin-losses 2.0")
    assert "loss twin (or double), of plugin twin" in printed
    assert "source: Author, Title, 2020" in printed
    assert "limit no-positive: raises without a positive" in printed
    assert "mining: external accepts: Pairs needs: positions, tuples" in words
    assert "--loss.margin_m float or none none Margin in metres." in words
    assert "--loss.mode one of a, b a How." in words
    assert "miner twin, of plugin twin" in printed
    assert "produces: Pairs no options" in words


@pytest.mark.parametrize(
    ("name", "headline"),
    [
        ("double", "loss twin (or double), of plugin twin"),
        ("twin:double", "loss twin (or double), of plugin twin"),
        ("twin:town", "dataset town, of plugin twin"),
    ],
)
def test_a_component(capsys, name, headline):
    assert main(["plugins", name]) == 0
    assert capsys.readouterr().out.strip().startswith(headline)


def test_what_a_data_set_can_do(capsys):
    assert main(["plugins", "town"]) == 0
    printed = capsys.readouterr().out
    assert "check: yes" in printed
    assert "prepare: no" in printed
    assert "near_radius_m=15.0" in printed


def test_the_traceback_of_a_failure(capsys):
    assert main(["plugins", "broken"]) == 0
    assert capsys.readouterr().out.endswith("  somewhere\nValueError: of mine\n")


def test_json_of_one(capsys):
    assert main(["plugins", "broken", "--json"]) == 0
    assert "somewhere" in json.loads(capsys.readouterr().out)["plugins"][0]["traceback"]
    assert main(["plugins", "double", "--json"]) == 0
    (component,) = json.loads(capsys.readouterr().out)["components"]
    assert component["limits"] == {"no-positive": "raises without a positive"}
    assert component["options"][0] == {
        "name": "loss.margin_m",
        "type": "float or none",
        "default": "none",
        "range": "",
        "help": "Margin in metres.",
    }


def test_unknown_name(capsys):
    assert main(["plugins", "twn"]) == 2
    message = "mlcore: error: unknown plugin or component 'twn'; did you mean 'twin'?\n"
    assert capsys.readouterr().err == message


def test_the_installed_plugins_are_whole(capsys, monkeypatch):
    monkeypatch.undo()
    assert main(["plugins", "--json"]) == 0
    shipped = {"baselines", "images", "pml", "soft-contrastive", "streets"}
    status = {p["name"]: p["status"] for p in json.loads(capsys.readouterr().out)}
    assert {name: status.get(name) for name in shipped} == dict.fromkeys(shipped, "ok")
