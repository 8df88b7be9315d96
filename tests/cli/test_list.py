from __future__ import annotations

import json

import pytest

from mlcore.cli.commands.list import KINDS
from mlcore.cli.main import main


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lists_itself(capsys, kind):
    assert main(["list", kind, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found
    for component in found:
        assert component.keys() == {"name", "aliases", "summary", "source", "plugin"}
        assert component["summary"]
    assert main(["list", kind]) == 0
    table = capsys.readouterr().out
    assert all(component["name"] in table for component in found)
    assert all(component["summary"] in table for component in found)


def test_the_proposed_loss_is_an_alias(capsys):
    main(["list", "losses", "--json"])
    (found,) = [c for c in json.loads(capsys.readouterr().out) if "proposed" in c["aliases"]]
    assert (found["name"], found["plugin"]) == ("soft-contrastive", "soft-contrastive")


def test_blocked_plugins_provide_nothing(capsys):
    assert main(["list", "losses", "--block", "soft-contrastive", "--json"]) == 0
    assert "soft-contrastive" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["losse"], "unknown kind 'losse'; did you mean 'losses'?"),
        (
            [],
            "mlcore list: the following arguments are required: KIND; see 'mlcore list --help'",
        ),
        (["losses", "--jso"], "unknown option '--jso'; did you mean '--json'?"),
        (["losses", "miners"], "mlcore list: unexpected argument 'miners'"),
        (["losses", "--block"], "mlcore list: argument --block: expected one argument; see"),
        (["losses", "--block", "pm"], "unknown plugin 'pm'; did you mean 'pml'?"),
    ],
)
def test_bad_input(capsys, argv, message):
    assert main(["list", *argv]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"mlcore: error: {message}")


def test_help(capsys):
    assert main(["list", "--help"]) == 0
    assert "losses, miners, influence-functions, datasets, models" in capsys.readouterr().out
