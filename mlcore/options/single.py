"""A component that a command chooses for itself, beside those of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from mlcore.errors import ConfigError, UnknownNameError
from mlcore.factories import Factory
from mlcore.options.config import Chosen
from mlcore.options.raw import RawOption
from mlcore.options.sections import Section, construct, values_of
from mlcore.registry.discovery import Registry

F = TypeVar("F", bound=Factory)


def choose_single(
    kind: type[F], name: str | None, given: Sequence[RawOption], registry: Registry
) -> tuple[Chosen[F] | None, list[RawOption]]:
    """Return a component with its options, and the options of others.

    Args:
        kind: What kind of component; its options are ``--KIND.OPTION``.
        name: Its name; None for none.
        given: Options of the command line.
        registry: The components to choose from.

    Raises:
        UnknownNameError: There is no such component, or it has no such option.
        ConfigError: An option has a wrong value, or there is one without a name.
    """
    own = [item for item in given if item.section == kind.kind]
    others = [item for item in given if item.section != kind.kind]
    if name is None:
        if own:
            raise ConfigError(f"{own[0].label} needs --{kind.kind} NAME")
        return None, others
    factory = registry.resolve(kind, name)
    title = f"{kind.kind} {factory.name!r}"
    section = Section.of(factory.config, name=kind.kind, title=title)
    for item in own:
        if item.option not in section.options:
            raise UnknownNameError(f"option of {title}", item.option, section.options)
    values = values_of({kind.kind: section}, own)[kind.kind]
    chosen = Chosen(
        name=registry.qualified_name(factory),
        factory=factory,
        options=construct(factory.config, values, title),
    )
    return chosen, others
