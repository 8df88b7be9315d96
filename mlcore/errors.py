"""Errors that a user can act on.

Every error that mlcore raises on purpose derives from :class:`MlcoreError`. The command line
turns one into a single message and its ``exit_code``, without a traceback; any other exception
is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
from collections.abc import Iterable, Sequence

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says if a file cannot grow."""


class MlcoreError(Exception):
    """Base of all errors that name a cause and a remedy.

    The message says what is wrong, the value given, where (file, row, option) and how to
    fix it.
    """

    exit_code = 2


class ConfigError(MlcoreError):
    """An option, a configuration file or a combination of components cannot work."""


class UnknownNameError(ConfigError):
    """A component, option or key of that name does not exist.

    Args:
        what: What was looked up, in words: "loss", "option", "key in run.toml".
        name: The name as given.
        known: The names that exist.
        hint: A further sentence, if there is more to say.
        nearest: Names to suggest; None suggests the most similar, or lists the known names.
    """

    def __init__(
        self,
        what: str,
        name: str,
        known: Iterable[str],
        hint: str = "",
        *,
        nearest: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.known = tuple(known)
        found = did_you_mean(name, self.known) if nearest is None else suggestion(nearest)
        parts = [f"unknown {what} {name!r}{found}", hint]
        super().__init__(" ".join(part for part in parts if part))


class MissingLibraryError(ConfigError):
    """A library that the user's request needs is not installed.

    Args:
        what: What needs it, as the sentence begins: "loss 'pml-circle'".
        module: Name of the library as Python imports it.
        install: What pip installs it with: "mlcore-localization[pml]".
    """

    def __init__(self, what: str, module: str, install: str) -> None:
        self.module = module
        self.install = install
        super().__init__(
            f"{what} needs {module}, which is not installed: pip install '{install}'"
        )


class PluginError(MlcoreError):
    """A plugin failed to load, broke the contract, or cannot be used."""


class DataError(MlcoreError):
    """A file or data set is missing, malformed or implausible."""


class Terminated(BaseException):
    """SIGTERM arrived; like KeyboardInterrupt, it lets ``finally`` clauses run."""


STOPS = (KeyboardInterrupt, Terminated, GeneratorExit)
"""What ends a program from outside, and is no fault of a component that it interrupts."""


class NonFiniteLossError(MlcoreError):
    """The loss or its gradient is not finite; raised before the optimizer step."""

    exit_code = 1


class WorkerError(MlcoreError):
    """A process of the run died."""

    exit_code = 1


class FailedElsewhereError(MlcoreError):
    """Another process of the run failed and reports why."""

    exit_code = 1


def is_installed(module: str) -> bool:
    """Return whether Python finds a top-level module, without importing it."""
    return importlib.util.find_spec(module) is not None


def require_library(what: str, module: str, install: str) -> None:
    """Check that an optional library is installed, before the work that needs it.

    Args:
        what: What needs it, as the sentence begins: "mlcore explain".
        module: Name of the library as Python imports it: "captum".
        install: What pip installs it with: "mlcore-localization[figures]".

    Raises:
        MissingLibraryError: It is not installed.
    """
    if not is_installed(module):
        raise MissingLibraryError(what, module, install)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the most similar known name, or the known names.

    If no name is similar, up to twelve known names are listed, so that the message alone is
    enough to go on.
    """
    names = sorted(set(known))
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6) or _spelt_otherwise(
        name, names
    )
    if nearest:
        return suggestion(nearest)
    if not names:
        return "; there are none"
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; known: {listed}"


def _spelt_otherwise(name: str, names: Sequence[str]) -> list[str]:
    """Return the names that differ in case, hyphens or the word loss: NTXentLoss, GeM."""
    wanted = _letters(name)
    same = [known for known in names if _letters(known) == wanted]
    if same or len(wanted) < _SHORTEST_PART:
        return same[:1]
    return [known for known in names if wanted in _letters(known)][:1]


_SHORTEST_PART = 4


def _letters(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum()).removesuffix("loss")


def suggestion(names: Sequence[str]) -> str:
    """Return "; did you mean 'x' or 'y'?"; empty without a name."""
    return f"; did you mean {' or '.join(map(repr, names))}?" if names else ""
