"""``mlcore new-plugin``: the package it writes is right as it is, and names are checked."""

from __future__ import annotations

import sys
import tomllib

import pytest

from mlcore.cli.main import main
from mlcore.testing import CheckSkipped, checks


def test_the_package_conforms_as_written(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "hinge-by-metres"
    assert main(["new-plugin", "hinge-by-metres", "--out", str(folder)]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [str(folder / name) for name in FILES]
    assert "mlcore train --loss hinge-by-metres" in told.err
    passed, skipped = run_checks(folder, "hinge_by_metres", monkeypatch)
    assert skipped == ["it has no forward_rows", "it has no forward_shared"]
    assert {"plugin/loads", "loss/hinge-by-metres/gradcheck"} <= passed


@pytest.mark.parametrize(
    ("kinds", "use"),
    [
        ("miner", "mlcore train --loss pml-triplet-margin --miner all-kinds"),
        ("influence,dataset", "mlcore train --influence all-kinds --dataset all-kinds"),
        ("dataset, loss,influence,miner", "mlcore train --loss all-kinds --dataset all-kinds"),
        ("backbone,pooling", "mlcore train --backbone all-kinds --pooling all-kinds"),
        ("model", "mlcore train --model all-kinds"),
        ("reranker", "mlcore localize MAP IMAGE --reranker all-kinds"),
    ],
)
def test_other_kinds_conform_as_well(tmp_path, monkeypatch, capsys, kinds, use):
    folder = tmp_path / "package"
    assert main(["new-plugin", "all-kinds", "--provides", kinds, "--out", str(folder)]) == 0
    assert capsys.readouterr().err.rstrip().endswith(use)
    passed, _ = run_checks(folder, "all_kinds", monkeypatch)
    provided = {name.split("/")[0] for name in passed} - {"plugin"}
    assert provided == {kind.strip() for kind in kinds.split(",")}


def run_checks(folder, package, monkeypatch):
    """Run the checks of a package that is not installed; fail where one does."""
    monkeypatch.syspath_prepend(folder / "src")
    passed, skipped = set(), []
    try:
        for check in checks(f"{package}.plugin"):
            try:
                check()
                passed.add(f"{check.component}/{check.name}")
            except CheckSkipped as reason:
                skipped.append(str(reason))
    finally:
        for name in [name for name in sys.modules if name.startswith(package)]:
            del sys.modules[name]
    return passed, skipped


FILES = [
    "README.md",
    "pyproject.toml",
    "src/hinge_by_metres/__init__.py",
    "src/hinge_by_metres/loss.py",
    "src/hinge_by_metres/plugin.py",
    "tests/test_conformance.py",
]


def test_the_entry_point_names_the_module(tmp_path):
    folder = tmp_path / "hinge-by-metres"
    main(["new-plugin", "hinge-by-metres", "--out", str(folder)])
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {
        "mlcore.plugins": {"hinge-by-metres": "hinge_by_metres.plugin"}
    }
    assert project["dependencies"][0].startswith("mlcore-localization>=")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Loss", "'My_Loss' is not a kebab-case name such as 'my-loss'"),
        ("torch", "a Python package 'torch' is already installed"),
        ("proposed", "plugin 'soft-contrastive' already provides a loss 'proposed'"),
    ],
)
def test_names_that_would_not_do(tmp_path, capsys, name, message):
    assert main(["new-plugin", name, "--out", str(tmp_path / "new")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_kind_that_is_none(tmp_path, capsys):
    out = str(tmp_path / "new")
    assert main(["new-plugin", "mine", "--provides", "loss,thing", "--out", out]) == 2
    known = "known: backbone, dataset, influence, loss, miner, model, pooling, reranker"
    assert f"unknown kind 'thing'; {known}" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path, capsys):
    assert main(["new-plugin", "mine", "--out", str(tmp_path)]) == 2
    assert f"{tmp_path} already exists; choose another --out" in capsys.readouterr().err
