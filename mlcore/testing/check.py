"""One check of one component, and what it says when it fails."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import dataclass


class Fault(Exception):  # noqa: N818 - the plugin's, not ours
    """What a check expected and what came instead; :class:`Check` adds where and how."""

    def __init__(self, expected: str, came: str, *, reproduce: str = "") -> None:
        super().__init__(f"expected {expected}; came {came}")
        self.expected = expected
        self.came = came
        self.reproduce = reproduce


class CheckFailure(AssertionError):  # noqa: N818 - what it is to a test
    """A check failed.

    Attributes:
        check: The check's full name.
        expected: What the contract asks for.
        came: What the component did.
        reproduce: Three lines of Python that show it.
        hint: What else would do, if there is something.
    """

    def __init__(
        self, check: str, *, expected: str, came: str, reproduce: str, hint: str = ""
    ) -> None:
        self.check = check
        self.expected = expected
        self.came = came
        self.reproduce = reproduce
        self.hint = hint
        lines = [check, f"  expected: {expected}", f"  came:     {came}", "  reproduce:"]
        lines += [f"    {line}" for line in reproduce.splitlines()]
        super().__init__("\n".join([*lines, *([f"  {hint}"] if hint else [])]))


class CheckSkipped(unittest.SkipTest):
    """The check does not apply, and why; pytest and unittest count it as skipped."""


def expect(holds: object, expected: str, came: object) -> None:
    """Raise :class:`Fault` unless ``holds`` is true."""
    if not holds:
        raise Fault(expected, str(came))


@dataclass(frozen=True)
class Check:
    """A named check; ``str(check)`` is ``plugin/kind/component/name``.

    Attributes:
        plugin: Name of the plugin.
        component: ``kind/name`` of a component, or "plugin" for the plugin as a whole.
        name: What is checked, such as "no-positive".
        test: Raises if it does not hold.
        reproduce: Three lines of Python that run this check, and it alone.
        declarable: Whether the failure may be declared in the factory's ``limits``.
        limit: What the factory declares: the check must fail then.
    """

    plugin: str
    component: str
    name: str
    test: Callable[[], None]
    reproduce: str
    declarable: bool = False
    limit: str | None = None

    def __str__(self) -> str:
        return f"{self.plugin}/{self.component}/{self.name}"

    def __call__(self) -> None:
        """Run the check.

        Raises:
            CheckFailure: The component does not keep to its contract, or declares a limit
                that does not occur.
            CheckSkipped: The check does not apply.
        """
        if self.limit is None:
            self._must_pass()
        else:
            self._must_fail()

    def _must_pass(self) -> None:
        hint = ""
        if self.declarable:
            hint = f'or declare it: limits={{"{self.name}": "what happens then, in words"}}'
        try:
            self.test()
        except CheckSkipped:
            raise
        except Fault as fault:
            raise CheckFailure(
                str(self),
                expected=fault.expected,
                came=fault.came,
                reproduce=fault.reproduce or self.reproduce,
                hint=hint,
            ) from fault.__cause__
        except Exception as error:
            raise CheckFailure(
                str(self),
                expected="no exception",
                came=one_line(error),
                reproduce=self.reproduce,
                hint=hint,
            ) from error

    def _must_fail(self) -> None:
        try:
            self.test()
        except CheckSkipped:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is what was declared
            return
        raise CheckFailure(
            str(self),
            expected=f"the declared limit to occur: {self.limit}",
            came="it does not; the check passes",
            reproduce=self.reproduce,
            hint=f"take {self.name!r} out of limits",
        )


def one_line(error: BaseException) -> str:
    """Return the type and the first line of an error's message."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
