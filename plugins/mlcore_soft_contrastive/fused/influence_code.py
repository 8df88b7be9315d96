"""Influence functions in Triton, translated from the C expression that the CUDA kernels use.

Only a small grammar is translated: numbers, the names ``d``, ``h`` and the parameters,
``+ - * /``, comparisons, ``? :``, parentheses and the functions of :data:`FUNCTIONS`. One
beyond it has no Triton form, and the loss uses its CUDA kernels instead.
"""

from __future__ import annotations

import functools
import hashlib
import linecache
import re
from typing import Any

from mlcore.protocols import DeviceCode

FUNCTIONS = {
    "expf": "tl.exp({0})",
    "logf": "tl.log({0})",
    "sqrtf": "tl.sqrt({0})",
    "fabsf": "tl.abs({0})",
    "fmaxf": "tl.maximum({0}, {1})",
    "fminf": "tl.minimum({0}, {1})",
    # 1 - 2 / (e^2x + 1) neither overflows nor returns NaN; Triton has no tanh of its own.
    "tanhf": "(1.0 - 2.0 / (tl.exp(2.0 * ({0})) + 1.0))",
}
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[fF]?"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign><=|>=|==|!=|[-+*/()<>?:,]))"
)


def triton_source(code: DeviceCode) -> str | None:
    """Return the text of a Triton function ``influence(d, h, parameters)``.

    None if the expression has no Triton form.
    """
    try:
        expression = _Parser(code).whole()
    except _NotTranslatedError:
        return None
    loads = [
        f"    {name} = tl.load(parameters + {k})" for k, name in enumerate(code.parameters)
    ]
    lines = ["def influence(d, h, parameters):", *loads, f"    return {expression}"]
    return "\n".join([*lines, ""])


@functools.cache
def triton_function(source: str) -> Any:
    """Return the compiled-at-launch function of :func:`triton_source`."""
    import triton
    import triton.language as tl

    # Triton reads a function's text where Python's own tracebacks do.
    name = f"<influence {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    scope: dict[str, Any] = {"tl": tl, "__name__": __name__}
    exec(compile(source, name, "exec"), scope)  # noqa: S102 - only what the parser wrote
    return triton.jit(scope["influence"])


class _NotTranslatedError(Exception):
    """The expression is beyond the grammar."""


class _Parser:
    """Recursive descent, one method per level of precedence."""

    def __init__(self, code: DeviceCode) -> None:
        self._names = {"d", "h", *code.parameters}
        # Of two integers, C returns an integer.
        if re.search(r"(?<![\w.])\d+\s*/\s*\d+(?![\w.])", code.expression):
            raise _NotTranslatedError
        if not all(name.isidentifier() and name != "tl" for name in self._names):
            raise _NotTranslatedError
        self._tokens: list[tuple[str, str]] = []
        text, at = code.expression.strip(), 0
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise _NotTranslatedError
            assert match.lastgroup is not None
            self._tokens.append((match.lastgroup, match.group(match.lastgroup)))
            at = match.end()
        self._tokens.append(("end", ""))

    def whole(self) -> str:
        """Return the translation of the whole expression."""
        translated = self._choice()
        if self._tokens[0][0] != "end":
            raise _NotTranslatedError
        return translated

    def _take(self, *signs: str) -> str | None:
        kind, text = self._tokens[0]
        if kind == "sign" and text in signs:
            del self._tokens[0]
            return text
        return None

    def _require(self, sign: str) -> None:
        if self._take(sign) is None:
            raise _NotTranslatedError

    def _choice(self) -> str:
        condition = self._binary(0)
        if self._take("?") is None:
            return condition
        first = self._choice()
        self._require(":")
        return f"tl.where({condition}, {first}, {self._choice()})"

    def _binary(self, level: int) -> str:
        levels = (("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/"))
        if level == len(levels):
            return self._unary()
        left = self._binary(level + 1)
        while (sign := self._take(*levels[level])) is not None:
            left = f"({left} {sign} {self._binary(level + 1)})"
        return left

    def _unary(self) -> str:
        if (sign := self._take("-", "+")) is not None:
            return f"({sign}{self._unary()})"
        if self._take("("):
            inner = self._choice()
            self._require(")")
            return inner
        kind, text = self._tokens.pop(0)
        if kind == "number":
            return str(float(text))
        if kind != "name":
            raise _NotTranslatedError
        if self._take("("):
            return self._call(text)
        if text not in self._names:
            raise _NotTranslatedError
        return text

    def _call(self, name: str) -> str:
        arguments = [self._choice()]
        while self._take(","):
            arguments.append(self._choice())
        self._require(")")
        form = FUNCTIONS.get(name)
        if form is None or form.count("{1}") != len(arguments) - 1:
            raise _NotTranslatedError
        return form.format(*arguments)
