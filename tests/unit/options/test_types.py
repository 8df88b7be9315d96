from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.option_types import (
    AT_LEAST_ONE,
    POSITIVE,
    Range,
    RelativeTo,
    check_options,
    check_ranges,
    from_plain,
    from_text,
    options_of,
    plain_text,
    to_plain,
)

SHOWABLE = [
    (bool, True),
    (int, 3),
    (float, 1),
    (float, math.inf),
    (str, "none"),
    (Path, Path("a")),
    (Literal["a", "none", 2], "none"),
    (tuple[int, ...], ()),
    (tuple[str, Path, float], ("a", Path("b"), 1.0)),
    (tuple[Literal["x"], ...], ("x",)),
    (int | None, None),
    (Optional[tuple[float, ...]], None),  # noqa: UP045
    (str | None, "a"),
    (float | Literal["auto", "none"], "none"),
    (float | Literal["auto", "none"], 3.0),
    (Literal["auto"] | int | None, None),
]


def one_field(hint: Any, default: Any) -> type:
    return make_dataclass("Config", [("x", hint, field(default=default))], frozen=True)


@pytest.mark.parametrize(("hint", "default"), SHOWABLE)
def test_showable_types(hint, default):
    check_options(one_field(hint, default))
    assert from_plain(to_plain(default), hint) == default


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (dict[str, int], None),
        (list[int], None),
        (Callable[[], int], None),
        (int | str, 3),
        (int | str | None, None),
        (tuple, ()),
        (tuple[int | None, ...], ()),
        (tuple[tuple[int, ...], ...], ()),
        (Literal["none", "a"] | None, "a"),
        (Literal[True], True),
        (float | Literal["none"] | None, None),
        (Path | Literal["a"], "a"),
        (int | float, 1),
        (float | tuple[int, ...], 1.0),
        (Any, None),
        (complex, 1j),
    ],
)
def test_types_that_cannot_be_shown(hint, default):
    with pytest.raises(
        TypeError, match=r"field 'x' has type .* is not supported on the command"
    ):
        check_options(one_field(hint, default))


@pytest.mark.parametrize(
    ("hint", "default"),
    [
        (int, 1.0),
        (int, True),
        (float, "1"),
        (bool, 1),
        (int, None),
        (str | None, "none"),
        (Literal["a"], "b"),
        (tuple[int, int], (1,)),
        (tuple[int, ...], [1]),
    ],
)
def test_defaults_that_a_file_could_not_keep(hint, default):
    with pytest.raises(TypeError, match=r"field 'x' has the default .*, which is not of type "):
        check_options(
            make_dataclass("Config", [("x", hint, field(default_factory=lambda: default))])
        )


def test_unresolvable_types_are_told():
    with pytest.raises(TypeError, match="types cannot be resolved: name 'Missing'"):
        check_options(make_dataclass("Config", [("x", "Missing", field(default=1))]))


@dataclass(frozen=True, kw_only=True)
class Documented:
    """A thing.

    Attributes:
        first_m: Distance in metres: from here
            to there.
        second: Second.

    The end.
    """

    first_m: float | None = None
    second: tuple[int, ...] = (1, 2)
    third: Literal["a", "b"] = "a"
    fourth: bool = False
    fifth: str = ""


def test_help_comes_from_the_docstring():
    first, second, third, fourth, fifth = options_of(Documented)
    assert first.help == "Distance in metres: from here to there."
    assert (first.type_name, first.metavar, first.default_text) == (
        "float or none",
        "FLOAT|none",
        "none",
    )
    assert (second.help, second.type_name, second.metavar, second.default_text) == (
        "Second.",
        "comma-separated int",
        "INT,...",
        "1,2",
    )
    assert (third.help, third.type_name, third.metavar) == ("", "one of a, b", "{a,b}")
    assert (fourth.metavar, fourth.default_text) == ("true|false", "false")
    assert fifth.default_text == '""'


VALUES = {
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(),
    Path: st.builds(Path, st.text(alphabet=st.characters(exclude_characters="\0"))),
}


@settings(max_examples=200, deadline=None)
@given(
    pair=st.sampled_from(list(VALUES)).flatmap(
        lambda kind: st.tuples(st.just(kind), VALUES[kind])
    )
)
def test_plain_values_read_back(pair):
    hint, value = pair
    assert from_plain(to_plain(value), hint) == value
    assert from_plain(to_plain((value, value)), tuple[hint, ...]) == (value, value)
    for other in VALUES:
        if other is not hint and (hint, other) not in {(int, float), (Path, str), (str, Path)}:
            with pytest.raises(ValueError, match="expected"):
                from_plain(to_plain(value), other)


def test_help_of_inherited_options():
    @dataclass(frozen=True, kw_only=True)
    class Special(Documented):
        """Has one more.

        Attributes:
            sixth: Sixth.
            second: Second, anew.
        """

        sixth: int = 0

    helps = {option.name: option.help for option in options_of(Special)}
    assert helps["first_m"] == "Distance in metres: from here to there."
    assert (helps["second"], helps["sixth"]) == ("Second, anew.", "Sixth.")


def test_a_number_or_a_word():
    hint = float | Literal["auto", "none"]
    option = options_of(one_field(hint, "auto"))[0]
    assert (option.type_name, option.metavar) == (
        "float or one of auto, none",
        "FLOAT|{auto,none}",
    )
    assert [from_plain(value, hint) for value in (3, "auto", "none")] == [3.0, "auto", "none"]
    with pytest.raises(ValueError, match="expected float or one of auto, none, got 'x'"):
        from_plain("x", hint)


def test_plain_text_is_what_is_typed():
    assert plain_text((1.5, Path("a"), None, True)) == "1.5,a,none,true"


@pytest.mark.parametrize(
    ("accepted", "inside", "outside", "words"),
    [
        (Range(), [0, -1e300, 5], [math.nan, math.inf, -math.inf], ""),
        (Range(infinite=True), [math.inf, -1], [math.nan], ""),
        (POSITIVE, [1e-300], [0, -1, math.nan, math.inf], "greater than 0"),
        (AT_LEAST_ONE, [1, 2], [0, math.nan], "at least 1"),
        (Range(at_least=0, at_most=180), [0, 180], [-1e-9, 181], "between 0 and 180"),
        (Range(above=0, below=1), [0.5], [0, 1], "greater than 0 and less than 1"),
        (Range(above=0, infinite=True), [math.inf], [0, math.nan], "greater than 0"),
    ],
)
def test_ranges(accepted, inside, outside, words):
    assert str(accepted) == words
    assert all(value in accepted for value in inside)
    assert not any(value in accepted for value in outside)


@given(
    value=st.floats(),
    low=st.floats(-1e6, 1e6),
    width=st.floats(0, 1e6),
)
def test_a_range_is_what_it_says(value, low, width):
    accepted = Range(at_least=low, at_most=low + width)
    assert (value in accepted) == (low <= value <= low + width)


@dataclass(frozen=True, kw_only=True)
class Ranged:
    """Options with ranges.

    Attributes:
        margin: A margin.
        limits: Several.
        support: Infinite by default.
        step: A number or a word.
        name: No number.
    """

    margin: Annotated[float, Range(at_least=0)] = 0.1
    limits: Annotated[tuple[float, ...], POSITIVE] = (1.0,)
    support: float = math.inf
    step: Annotated[float | Literal["auto"] | None, POSITIVE] = "auto"
    name: str = "x"

    def __post_init__(self) -> None:
        check_ranges(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"margin": -0.1}, "margin must be at least 0, got -0.1"),
        ({"margin": math.nan}, "margin must be at least 0, got nan"),
        ({"limits": (1.0, 0.0)}, "limits must be greater than 0, got 1.0,0.0"),
        ({"support": math.nan}, "support must be a number, got nan"),
        ({"step": 0.0}, "step must be greater than 0, got 0.0"),
    ],
)
def test_values_outside_their_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Ranged(**values)


def test_values_in_their_range_and_what_is_no_number():
    Ranged(margin=0.0, limits=(), support=math.inf, step=None)
    check_options(Ranged)
    margin, limits, *_ = options_of(Ranged)
    assert (margin.hint, margin.values_text) == (float, "float, at least 0")
    assert limits.values_text == "comma-separated float, greater than 0"


def test_a_default_outside_its_range_is_refused():
    hint = Annotated[float, POSITIVE]
    with pytest.raises(TypeError, match=r"default of field 'x' must be greater than 0, got 0"):
        check_options(one_field(hint, 0.0))


def test_a_path_relative_to_no_field_is_refused():
    with pytest.raises(TypeError, match="relative to 'root', which is not a field"):
        check_options(one_field(Annotated[Path | None, RelativeTo("root")], None))


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        ("-1e-3", float, -1e-3),
        ("inf", float, math.inf),
        ("true", bool, True),
        ("none", int | None, None),
        ("none", str, "none"),
        ("auto", float | Literal["auto"], "auto"),
        ("2.5", float | Literal["auto"], 2.5),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("", tuple[str, ...], ()),
        ('["a,b"]', tuple[str, ...], ("a,b",)),
        ("3,x", tuple[int, str], (3, "x")),
        ("2", Literal["a", 2], 2),
    ],
)
def test_texts_are_read(text, hint, value):
    assert from_text(text, hint) == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3.0", int),
        ("x", float),
        ("1", bool),
        ("True", bool),
        ("", int),
        ("b", Literal["a"]),
        ("1,2,3", tuple[int, int]),
        ("[1", tuple[int, ...]),
        ("[" * 100_000, tuple[int, ...]),
        ("9" * 5000, int),
    ],
)
def test_texts_of_another_type_are_refused(text, hint):
    with pytest.raises(ValueError, match="expected"):
        from_text(text, hint)
