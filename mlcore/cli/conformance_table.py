"""``mlcore plugins --check [NAME]``: the conformance kit, in a table."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlcore.cli import console
from mlcore.testing import Check, CheckFailure, CheckSkipped


@dataclass(frozen=True)
class Outcome:
    """The outcome of a check.

    Attributes:
        check: The check.
        result: Whether it passed, failed or did not apply.
        message: Why it failed or did not apply.
        failure: What was raised, if it failed.
    """

    check: Check
    result: Literal["passed", "failed", "skipped"]
    message: str = ""
    failure: CheckFailure | None = None

    @property
    def cause(self) -> tuple[str, ...]:
        """What failures of one component have in common if they have one cause."""
        assert self.failure is not None
        wanted = self.failure.expected.partition(" (")[0]
        return self.check.plugin, self.check.component, wanted, self.failure.came


def run_checks(checks: Sequence[Check], *, as_json: bool) -> int:
    """Run checks, print their outcomes, and return the exit code: 1 after a failure."""
    outcomes = []
    with console.progress() as report:
        for done, check in enumerate(checks):
            report("checking", done, len(checks))
            outcomes.append(_outcome(check))
        report("checking", len(checks), len(checks))
    if as_json:
        console.write_json(
            [
                {"check": str(o.check), "result": o.result, "message": o.message}
                for o in outcomes
            ]
        )
    else:
        _show(outcomes)
    return int(any(outcome.result == "failed" for outcome in outcomes))


def _outcome(check: Check) -> Outcome:
    try:
        check()
    except CheckFailure as failure:
        return Outcome(check, "failed", str(failure), failure)
    except CheckSkipped as skipped:
        return Outcome(check, "skipped", str(skipped))
    return Outcome(check, "passed")


def _show(outcomes: Sequence[Outcome]) -> None:
    table = console.table("plugin!", "component!", "passed#", "skipped#", "failed#", "failures")
    owners = dict.fromkeys((o.check.plugin, o.check.component) for o in outcomes)
    for owner in owners:
        own = [o for o in outcomes if (o.check.plugin, o.check.component) == owner]
        count = Counter(outcome.result for outcome in own)
        names = ", ".join(o.check.name for o in own if o.result == "failed")
        numbers = [str(count[result]) for result in ("passed", "skipped", "failed")]
        table.add_row(*owner, *numbers, names)
    console.show(table)
    by_cause = defaultdict(list)
    for outcome in outcomes:
        if outcome.result == "failed":
            by_cause[outcome.cause].append(outcome)
    for first, *others in by_cause.values():
        alike = ", ".join(other.check.name for other in others)
        console.write(f"{first.message}\n" + (f"  fail alike: {alike}\n" if alike else ""))
    for outcome in outcomes:
        if outcome.result == "skipped" and outcome.check.name == "opens":
            console.say(f"{outcome.check.component} was not checked: {outcome.message}")
