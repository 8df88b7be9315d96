"""Checks of every factory, whatever it builds."""

from __future__ import annotations

import tomllib
from dataclasses import fields

from mlcore.option_types import from_plain, options_of, to_plain
from mlcore.testing.check import expect
from mlcore.testing.subject import Subject
from mlcore.testing.vocabulary import declarable


def described(subject: Subject) -> None:
    """Summary and options are described, for ``mlcore list`` and ``--help``."""
    summary = subject.factory.summary
    expect(summary.strip() and "\n" not in summary, "a summary of one line", repr(summary))
    untold = [option.name for option in options_of(subject.factory.config) if not option.help]
    expect(
        not untold,
        "each option told, with its unit, in the Attributes section of the options' docstring",
        f"nothing on {', '.join(untold)}",
    )


def config_round_trip(subject: Subject) -> None:
    """Options written to TOML and read back are the options."""
    import tomli_w

    config_type = subject.factory.config
    config = subject.config or config_type()
    written = {field.name: to_plain(getattr(config, field.name)) for field in fields(config)}
    read = tomllib.loads(tomli_w.dumps(written))
    values = {
        option.name: from_plain(read[option.name], option.hint)
        for option in options_of(config_type)
    }
    again = config_type(**values)
    expect(again == config, f"{config!r} after writing it to TOML and back", repr(again))


def limits_known(subject: Subject) -> None:
    """What is declared as a limit is something that the kit can look for."""
    known = declarable(subject.factory.kind)
    unknown = [key for key in subject.factory.limits if key not in known]
    expect(
        not unknown,
        f"keys of limits among {', '.join(known) or 'none'}",
        f"limits of {', '.join(unknown)}",
    )


CHECKS = {
    "described": described,
    "config-round-trip": config_round_trip,
    "limits-known": limits_known,
}
