"""One check of one component, and what it says when it fails."""

from __future__ import annotations

import linecache
import os
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from traceback import walk_tb
from typing import Any


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
        where: File, line and code of the plugin that raised an exception; "" without one.
        reproduce: Three lines of Python that show it.
        hint: How else to fix it, if there is a way.
        cause: The exception, with its traceback.
    """

    def __init__(
        self,
        check: str,
        *,
        expected: str,
        came: str,
        reproduce: str,
        where: str = "",
        hint: str = "",
        cause: BaseException | None = None,
    ) -> None:
        self.check = check
        self.expected = expected
        self.came = came
        self.where = where
        self.reproduce = reproduce
        self.hint = hint
        self.cause = cause
        lines = [check, f"  expected: {expected}", f"  came:     {came}"]
        lines += [f"  at:       {where}"] if where else []
        lines += ["  reproduce:", *(f"    {line}" for line in reproduce.splitlines())]
        super().__init__("\n".join([*lines, *([f"  {hint}"] if hint else [])]))


class CheckSkipped(unittest.SkipTest):
    """The check does not apply, and why; pytest and unittest count it as skipped."""


def expect(holds: object, expected: str, came: object) -> None:
    """Raise :class:`Fault` unless ``holds`` is true."""
    if not holds:
        raise Fault(expected, str(came))


@dataclass(frozen=True, repr=False)
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
        package: Top-level package of the plugin's code, to find where it raised an exception.
    """

    plugin: str
    component: str
    name: str
    test: Callable[[], None]
    reproduce: str
    declarable: bool = False
    limit: str | None = None
    package: str = ""

    def __str__(self) -> str:
        return f"{self.plugin}/{self.component}/{self.name}"

    def __repr__(self) -> str:
        return f"<check {self}>"

    def __call__(self) -> None:
        """Run the check.

        Raises:
            CheckFailure: The component does not keep to its contract, or declares a limit
                that does not occur.
            CheckSkipped: The check does not apply.
        """
        __tracebackhide__ = True
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
            expected, came = fault.expected, fault.came
            cause, reproduce = fault.__cause__, fault.reproduce
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the plugin's, whatever it is
            expected, came, cause, reproduce = "no exception", one_line(error), error, ""
        else:
            return
        __tracebackhide__ = True  # pytest shows the message, which has all that is known
        raise CheckFailure(
            str(self),
            expected=expected,
            came=came,
            where=line_of(cause, self.package),
            reproduce=reproduce or self.reproduce,
            hint=hint,
            cause=cause,
        )

    def _must_fail(self) -> None:
        try:
            self.test()
        except CheckSkipped:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - it is what was declared
            return
        __tracebackhide__ = True
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


def module_of(build: Any) -> str:
    """Return the module that a factory's ``build`` comes from."""
    while not hasattr(build, "__module__") or hasattr(build, "func"):
        build = getattr(build, "func", type(build))
    return str(build.__module__)


def line_of(error: BaseException | None, package: str) -> str:
    """Return file, line, function and code where a package's code raised an exception.

    Of the calls that led to it, this is the last one within the package: what an author can
    change. Empty without an exception, or if none of its calls is in the package.
    """
    while isinstance(error, Fault):
        error = error.__cause__
    found = ""
    for frame, line in walk_tb(error.__traceback__ if error else None):
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] != package:
            continue
        code = frame.f_code
        text = linecache.getline(code.co_filename, line, frame.f_globals).strip()
        found = f"{_short(code.co_filename)}:{line}, in {code.co_name}"
        found += f": {text}" if text else ""
    return found


def _short(file: str) -> str:
    inside = file.startswith(os.getcwd() + os.sep)  # noqa: PTH109 - a prefix of text
    return os.path.relpath(file) if inside else file
