"""Every broken plugin fails the check that is meant for it, and says what to do."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest
import torch

from mlcore.cli.conformance_table import run_checks
from mlcore.testing import CheckFailure, CheckSkipped, checks
from mlcore.testing.losses.together import in_group

sys.path.insert(0, str(Path(__file__).parent))
from broken_calls import CALLS
from broken_datasets import DATASETS, NoData, dataset_factory
from broken_influence import INFLUENCE, influence_factory
from broken_losses import LOSSES, MeanOfNear, NeedsHeadings, OwnNormalisation, loss_factory
from broken_miners import MINERS, miner_factory
from broken_networks import NETWORKS, backbone_factory, model_factory, pooling_factory
from broken_rerankers import RERANKERS, reranker_factory

sys.path.pop(0)

BROKEN = {**LOSSES, **CALLS, **INFLUENCE, **MINERS, **DATASETS, **NETWORKS, **RERANKERS}

MODULE = """
import mlcore
{top}
@mlcore.hookimpl
def {hook}():
    {body}
    return []
"""


def module(*, top: str = "", hook: str = "mlcore_losses", body: str = "pass") -> str:
    return MODULE.format(top=top, hook=hook, body=body)


MODULES = {
    "import error": (module(top="import nonsense"), {"loads"}),
    "exit at import": (module(top="raise SystemExit(0)"), {"loads"}),
    "misspelt hook": (module(hook="mlcore_loses"), {"loads"}),
    "hook that raises": (module(body="raise ValueError"), {"loads"}),
    "another hook version": (module(top="mlcore_hook_api = 99"), {"loads"}),
    "torch at import": (module(top="import torch"), {"imports-no-torch"}),
    "torch in a hook": (module(body="import torch"), {"imports-no-torch"}),
    "prints at import": (module(top="print('hello')"), {"prints-nothing"}),
    "writes to stderr": (
        module(top="import sys; sys.stderr.write('hello')"),
        {"prints-nothing"},
    ),
    "replaces a signal handler": (
        module(top="import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
        {"leaves-process-alone"},
    ),
    "silences warnings": (
        module(top="import warnings; warnings.simplefilter('ignore')"),
        {"leaves-process-alone"},
    ),
    "sets an environment variable": (
        module(top="import os; os.environ['MLCORE_BROKEN_PLUGIN'] = 'x'"),
        {"leaves-process-alone"},
    ),
}


def outcomes(plugin, **options) -> dict[str, CheckFailure | CheckSkipped | None]:
    """Run all checks; return what each raised."""
    found: dict[str, CheckFailure | CheckSkipped | None] = {}
    for check in checks(plugin, **options):
        try:
            check()
        except (CheckFailure, CheckSkipped) as raised:
            found[check.name] = raised
        else:
            found[check.name] = None
    return found


def failed(plugin, **options) -> dict[str, CheckFailure]:
    return {
        name: raised
        for name, raised in outcomes(plugin, **options).items()
        if isinstance(raised, CheckFailure)
    }


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that makes a module importable under a name of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLCORE_BROKEN_PLUGIN", "")  # undone, whatever a plugin sets
    previous = signal.getsignal(signal.SIGTERM)

    def add(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    yield add
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize(
    "make",
    [
        *(loss_factory, influence_factory, miner_factory, dataset_factory),
        *(backbone_factory, pooling_factory, model_factory, reranker_factory),
    ],
)
def test_what_is_right_passes(make):
    found = outcomes([make()])
    may_fail = {"rows-add-up", "shared-adds-up", "headings"}  # skipped
    assert {name for name, raised in found.items() if raised} <= may_fail


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_component_fails_its_check_and_no_other(fault):
    factory, names = BROKEN[fault]
    assert set(failed([factory])) == names


@pytest.mark.parametrize("fault", MODULES)
def test_a_broken_module_fails_its_check_and_no_other(install, fault):
    source, names = MODULES[fault]
    name = install(f"broken_module_{list(MODULES).index(fault)}", source)
    assert set(failed(name)) == names


def test_the_cost_of_torch_and_who_imports_it(install):
    name = install("imports_torch", module(top="from torch import nn"))
    failure = failed(name)["imports-no-torch"]
    assert "imports_torch.py:3; listing takes " in failure.came
    assert failure.came.endswith(" s")


def test_a_failure_says_what_was_expected_what_came_and_how_to_see_it(install):
    name = install(
        "own_normalisation",
        "import mlcore\nfrom broken_losses import OwnNormalisation, loss_factory\n"
        "@mlcore.hookimpl\ndef mlcore_losses():\n    return [loss_factory(OwnNormalisation)]\n",
    )
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        failure = failed(name, only="loss/*")["zero-embeddings"]
    finally:
        sys.path.pop(0)
    assert str(failure).splitlines() == [
        "own_normalisation/loss/pull/zero-embeddings",
        "  expected: a finite loss (an anchor)",
        "  came:     nan",
        "  reproduce:",
        "    from mlcore.testing import loss_case",
        (
            "    loss, embeddings, batch, tuples = "
            "loss_case('own_normalisation', 'pull', 'zero-embeddings', 'an anchor')"
        ),
        "    loss(embeddings, batch, tuples).loss.backward(); print(embeddings.grad)",
        '  or declare it: limits={"zero-embeddings": "what happens then, in words"}',
    ]


@pytest.mark.parametrize("name", ["zero-embeddings", "memory"])
def test_the_three_lines_show_the_fault(install, capsys, name):
    plugin = install(
        "normalises_and_lies",
        "import mlcore\nfrom broken_losses import OwnNormalisation, loss_factory\n"
        "@mlcore.hookimpl\ndef mlcore_losses():\n"
        "    return [loss_factory(OwnNormalisation, memory='cubic')]\n",
    )
    sys.path.insert(0, str(Path(__file__).parent))
    try:
        lines = failed(plugin, only=f"loss/pull/{name}")[name].reproduce
        assert len(lines.splitlines()) == 3
        if name == "memory":
            with pytest.raises(CheckFailure, match="memory cubic"):
                exec(lines, {})
        else:
            exec(lines, {})
            assert "nan" in capsys.readouterr().out
    finally:
        sys.path.pop(0)


def test_a_declared_limit_is_no_failure_while_it_occurs():
    limits = {"zero-embeddings": "divides by the length of the embedding"}
    assert failed([loss_factory(OwnNormalisation, limits=limits)]) == {}
    failure = failed([loss_factory(limits=limits)])["zero-embeddings"]
    assert failure.expected == (
        "the declared limit to occur: divides by the length of the embedding"
    )
    assert failure.hint == "take 'zero-embeddings' out of limits"


def test_one_fault_is_told_once():
    found = outcomes([LOSSES["no LossOutput"][0]])
    assert str(found["gradcheck"]) == "'scalar' fails"
    found = outcomes([LOSSES["no graph"][0]])
    assert str(found["no-headings"]) == "'gradient' fails"
    found = outcomes([LOSSES["float32 positions"][0]])
    assert str(found["near-thresholds"]) == "'translation' fails"
    assert found["no-headings"] is None


def test_an_exception_comes_with_the_line_of_the_plugin_and_no_other_traceback():
    failure = failed([loss_factory(NeedsHeadings)])["no-headings"]
    file = Path(__file__).with_name("broken_losses.py")
    code = "turn = batch.headings_rad[:, None] - batch.headings_rad[None]"
    line = file.read_text().splitlines().index(f"        {code}") + 1
    assert failure.where.endswith(f"broken_losses.py:{line}, in near: {code}")
    assert f"\n  at:       {failure.where}\n" in str(failure)
    assert isinstance(failure.cause, TypeError) or isinstance(
        failure.cause.__cause__, TypeError
    )
    assert failure.__cause__ is failure.__context__ is None


def test_where_there_is_no_line_of_the_plugin_none_is_given():
    failure = failed([loss_factory(OwnNormalisation)])["zero-embeddings"]
    assert (failure.where, "\n  at:" in str(failure)) == ("", False)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("random at every call", "draws random numbers when it is called"),
        ("keeps statistics", "a call left something behind, such as a running mean"),
    ],
)
def test_a_loss_that_differs_from_call_to_call_is_told_why(fault, said):
    factory, _ = LOSSES[fault]
    assert said in failed([factory])["repeatable"].came


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("draws from the global generator", "draws random numbers when it is called"),
        ("counts its calls", "a call left something behind"),
    ],
)
def test_so_is_a_miner(fault, said):
    factory, _ = MINERS[fault]
    assert said in failed([factory])["seed"].came


def test_failures_of_one_cause_are_shown_once(capsys):
    found = checks([loss_factory(MeanOfNear), loss_factory(NeedsHeadings, name="turned")])
    assert run_checks(found, as_json=False) == 1
    shown = capsys.readouterr().out
    assert shown.count("expected:") == 2
    assert "  fail alike: no-positive, neither\n" in shown
    assert "one-row, no-positive, neither" in shown.partition("expected:")[0]
    assert run_checks(found, as_json=True) == 1
    outcomes_of = [one["result"] for one in json.loads(capsys.readouterr().out)]
    assert outcomes_of.count("failed") == 4


def test_a_data_set_without_data_says_what_it_lacks():
    found = outcomes([dataset_factory(NoData)])
    assert isinstance(found["opens"], CheckSkipped)
    assert "give --dataset.root" in str(found["opens"])
    assert "configs={'road': ...}" in str(found["opens"])


def test_what_is_asked_for_must_be_there():
    with pytest.raises(
        ValueError, match=r"configs of .*'rode'.* but the data sets are .*'road'"
    ):
        checks([dataset_factory()], configs={"rode": None})


def test_listing_checks_imports_no_torch(install):
    import subprocess

    script = (
        "import sys; from mlcore.testing import checks; checks('soft-contrastive');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_process_that_skips_a_collective_is_named():
    def work(group):
        return group.add_up(torch.ones(1)) if group.rank == 0 else None

    with pytest.raises(RuntimeError, match="process 0 calls add_up, process 1 returns"):
        in_group(2, work)
