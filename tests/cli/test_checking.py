"""``mlcore plugins --check``: a table, the failures in full, and the exit code."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from mlcore import InfluenceFactory
from mlcore.cli.conformance_table import run_checks
from mlcore.cli.main import main
from mlcore.testing import checks


@dataclass(frozen=True, kw_only=True)
class Rising:
    """No options."""

    support_m = 50.0
    repulsion_start_m = -1.0

    def __call__(self, distance_m):
        return distance_m / (1 + distance_m) + 0 * distance_m


RISING = InfluenceFactory(
    name="rising", summary="the wrong way round", config=Rising, build=lambda config, _: config
)


def test_a_plugin_by_name(capsys):
    assert main(["plugins", "--check", "step"]) == 0
    out = capsys.readouterr().out
    assert "influence/step" in out
    assert "loss/" not in out


def test_json_for_a_script(capsys):
    assert main(["plugins", "--check", "sigmoid", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    skipped = {entry["check"] for entry in found if entry["result"] != "passed"}
    assert skipped == {"soft-contrastive/influence/sigmoid/headings"}
    assert found[0]["check"] == "soft-contrastive/influence/sigmoid/described"


def test_faults_are_told_in_full_and_exit_1(capsys):
    assert run_checks(checks([RISING], only="*/monotone"), as_json=False) == 1
    out = capsys.readouterr().out
    assert "factories   influence/rising" in out
    assert "expected: weights that never rise with distance" in out
    assert "for check in checks(factories, only='influence/rising/monotone'):" in out


def test_a_data_set_without_data_is_not_silently_left_out(capsys):
    assert main(["plugins", "--check", "images"]) == 0
    assert "dataset/images was not checked: no data with the" in capsys.readouterr().err


def test_an_unknown_name(capsys):
    assert main(["plugins", "--check", "sigmoit"]) == 2
    assert "did you mean 'sigmoid'" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_to_check(capsys, as_json):
    assert run_checks([], as_json=as_json) == 0
