"""Prints the report of checking, preparing or writing a data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.factories import Report

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {"info": "dim", "warning": "yellow", "fault": "red"}


def show_report(report: Report) -> None:
    """Print the facts, the findings, and the commands to run next."""
    facts = console.table("fact", "value")
    for name, value in report.facts.items():
        facts.add_row(name, str(value))
    console.show(facts)
    if report.findings:
        console.show(_findings(report))
    else:
        console.write("No problems found.")
    if report.commands:
        console.write("\n".join(["Next:", *report.commands]))


def _findings(report: Report) -> Table:
    findings = console.table("severity", "count#", "finding", "for example")
    for finding in report.findings:
        findings.add_row(
            finding.severity,
            str(finding.count),
            f"{finding.message} [{finding.name}]" if finding.name else finding.message,
            "\n".join(finding.examples),
            style=_STYLES[finding.severity],
        )
    return findings
