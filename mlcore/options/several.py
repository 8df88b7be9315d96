"""Several data sets in one run: ``--dataset a,b``, or ``[[dataset]]`` for each in TOML.

``--dataset.2.root DIR`` sets an option of the second one; ``--dataset.root DIR``, of every one
that has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext, DatasetFactory, Factory, Finding, Report
from mlcore.options.config import Chosen, attribute_errors
from mlcore.options.raw import RawOption

if TYPE_CHECKING:
    from mlcore.data.several import SeveralDatasets

DATASET = "dataset"


@dataclass(frozen=True, kw_only=True)
class SeveralOptions:
    """The data sets of a run that has several.

    Attributes:
        parts: Each with its options, in order.
    """

    parts: tuple[Chosen[DatasetFactory], ...] = ()

    @property
    def accept_faults(self) -> tuple[str, ...]:
        """The faults that any of the data sets accepts."""
        accepted = [getattr(part.options, "accept_faults", ()) for part in self.parts]
        return tuple(dict.fromkeys(name for names in accepted for name in names))


def names_of(text: str) -> list[str]:
    """Return the names in ``a,b``."""
    return [name.strip() for name in text.split(",")]


def section_of(number: int) -> str:
    """Return the section of the options of one of several data sets, numbered from 1."""
    return f"{DATASET}.{number}"


def with_numbers(
    given: Sequence[RawOption], factories: Mapping[str, Factory]
) -> list[RawOption]:
    """Return options with those of data sets in the section of each data set.

    Args:
        given: Options of a run.
        factories: The chosen components by section; nothing changes for one data set.

    Raises:
        ConfigError: An option is of a data set beyond the last.
    """
    options = {
        name: {field.name for field in fields(factory.config)}
        for name, factory in factories.items()
        if name.startswith(f"{DATASET}.")
    }
    if not options:
        return list(given)
    found: list[RawOption] = []
    for item in given:
        number, dot, option = item.option.partition(".")
        if item.section != DATASET or item.chooses:
            found.append(item)
        elif not (dot and number.isdecimal()):
            having = [name for name, known in options.items() if item.option in known]
            found += [replace(item, section=name) for name in having or [section_of(1)]]
        elif section_of(int(number)) in options:
            found.append(replace(item, section=section_of(int(number)), option=option))
        else:
            raise ConfigError(
                f"{item.label}: there is no data set {number}; the run has {len(options)}, "
                "numbered from 1"
            )
    return found


def combined(chosen: Mapping[str, Chosen[Any]]) -> dict[str, Chosen[Any]]:
    """Return chosen components with several data sets, where there are some, as one."""
    of_part = {name for name in chosen if name.startswith(f"{DATASET}.")}
    rest = {name: one for name, one in chosen.items() if name not in of_part}
    if not of_part:
        return rest
    return {
        DATASET: _several(tuple(chosen[name] for name in sorted(of_part, key=_number))),
        **rest,
    }


def _number(section: str) -> int:
    return int(section.rpartition(".")[2])


def parts_of(dataset: Chosen[DatasetFactory]) -> dict[str, Chosen[DatasetFactory]]:
    """Return the data sets of a run by their dotted section: ``dataset`` if there is one."""
    if not isinstance(dataset.options, SeveralOptions):
        return {DATASET: dataset}
    return {section_of(k + 1): part for k, part in enumerate(dataset.options.parts)}


def labels_of(names: Sequence[str]) -> list[str]:
    """Return a label for each data set: its name, numbered where a name occurs twice."""
    return [
        name if names.count(name) == 1 else f"{name} {names[: k + 1].count(name)}"
        for k, name in enumerate(names)
    ]


def kept_options(kept: Sequence[RawOption], chosen: Sequence[str]) -> list[RawOption]:
    """Return what the options of a run's data sets say of newly chosen ones.

    A data set that the run has keeps its options; any other takes none.

    Args:
        kept: Options of the run, those of other sections included.
        chosen: Names of data sets or, where the run has several of a name, their labels, such
            as ``streets 2``.

    Returns:
        Options of data sets, those that choose included.

    Raises:
        ConfigError: A name is that of several data sets of the run.
    """
    mine = [item for item in kept if item.section == DATASET]
    names = next((names_of(str(item.value)) for item in mine if item.chooses), [])
    labels = labels_of(names)
    wanted = list(chosen)
    found: list[RawOption] = []
    for number, name in enumerate(wanted, start=1):
        if name not in labels:
            alike = [repr(labels[k]) for k, own in enumerate(names) if own == name]
            if alike:
                raise ConfigError(
                    f"the run has {len(alike)} data sets {name!r}; choose one by its label: "
                    f"--dataset {' or '.join(alike)}"
                )
            continue
        old = labels.index(name)
        wanted[number - 1] = names[old]
        before = f"{old + 1}." if len(names) > 1 else ""
        after = f"{number}." if len(wanted) > 1 else ""
        found += [
            replace(item, option=after + item.option.removeprefix(before))
            for item in mine
            if not item.chooses and item.option.startswith(before)
        ]
    return [RawOption(section=DATASET, option="name", value=",".join(wanted)), *found]


def _several(parts: tuple[Chosen[DatasetFactory], ...]) -> Chosen[DatasetFactory]:
    for k, part in enumerate(parts):
        if part in parts[:k]:
            raise ConfigError(_twice(part, parts.index(part) + 1, k + 1))
    name = ",".join(part.name for part in parts)
    factory = DatasetFactory(
        name=name,
        summary="Several data sets, each in regions of its own",
        config=SeveralOptions,
        build=_build,
        check=_check,
        radii=parts[0].factory.radii,
        requires={k: v for part in parts for k, v in part.factory.requires.items()},
    )
    return Chosen(name=name, factory=factory, options=SeveralOptions(parts=parts))


def _labels(options: SeveralOptions) -> list[str]:
    return labels_of([part.factory.name for part in options.parts])


def _twice(part: Chosen[DatasetFactory], first: int, second: int) -> str:
    """Return why two data sets must not have the same options, and how to give them others."""
    names = [field.name for field in fields(part.factory.config)]
    option = "root" if "root" in names else next(iter(names), "OPTION")
    return (
        f"data sets {first} and {second} are both {part.name!r} with the same options, so that "
        "every image would count twice; give each its own, such as "
        f"--{section_of(first)}.{option} A --{section_of(second)}.{option} B, or name the data "
        "set once"
    )


def _build(options: SeveralOptions, context: BuildContext) -> SeveralDatasets:
    from mlcore.data.several import SeveralDatasets

    opened = {}
    for label, part in zip(_labels(options), options.parts, strict=True):
        try:
            with attribute_errors(part, "could not be built"):
                opened[label] = part.factory.build(part.options, context)
        except DataError as error:
            raise DataError(f"data set {label!r}: {error}") from error
    return SeveralDatasets(opened)


def _check(options: SeveralOptions, *, full: bool = False) -> Report:
    """Return the reports of all data sets as one; only together do they need test images."""
    from mlcore.data.soundness import check_any, check_splits

    try:
        opened = _build(options, BuildContext())
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    facts: dict[str, str | int | float] = {}
    findings: list[Finding] = []
    for (label, dataset), part in zip(opened.parts.items(), options.parts, strict=True):
        if part.factory.check is None:
            report = check_any(dataset, part.factory.radii.near_radius_m, full=full)
        else:
            report = part.factory.check(part.options, **({"full": True} if full else {}))
        empty = {finding.message for finding in check_splits(dataset)}
        facts |= {f"{label}: {name}": fact for name, fact in report.facts.items()}
        findings += [
            replace(finding, message=f"{label}: {finding.message}")
            for finding in report.findings
            if finding.message not in empty
        ]
    return Report(facts=facts, findings=(*findings, *check_splits(opened)))
