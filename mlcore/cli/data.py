"""``mlcore data check``: what a data set's files would do to a result, before a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from mlcore.cli import console
from mlcore.errors import ConfigError
from mlcore.factories import Report
from mlcore.options import Parser, parse_run
from mlcore.registry import Registry

_STYLES = {"info": "dim", "warning": "yellow", "fault": "red"}


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 1 if a fault was found."""
    parser = Parser("data", "Examine a data set; takes the options of mlcore train.")
    parser.add_argument("action", choices=("check",), help="check: look for faults")
    parser.add_argument("--json", action="store_true", help="print JSON for a script")
    parser.add_block_option()
    own, rest = parser.parse_known_args(argv)
    registry = Registry.discover(block=own.block)
    dataset = parse_run(rest, registry, own_options=parser.option_names()).dataset
    if dataset.factory.check is None:
        checkable = [f.name for _, f in registry.factories(type(dataset.factory)) if f.check]
        raise ConfigError(
            f"data set {dataset.name!r} has nothing to check; these have: "
            f"{', '.join(checkable)}"
        )
    report = dataset.factory.check(dataset.options)
    if own.json:
        console.write_json(asdict(report) | {"ok": report.ok})
    else:
        _show(report)
    return 0 if report.ok else 1


def _show(report: Report) -> None:
    facts = console.table("fact", "value")
    for name, value in report.facts.items():
        facts.add_row(name, str(value))
    console.show(facts)
    if not report.findings:
        console.write("Nothing was found that would spoil a result.")
        return
    findings = console.table("severity", "count#", "finding", "for example")
    for finding in report.findings:
        findings.add_row(
            finding.severity,
            str(finding.count),
            finding.message,
            "\n".join(finding.examples),
            style=_STYLES[finding.severity],
        )
    console.show(findings)
