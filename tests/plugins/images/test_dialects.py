"""CSV as spreadsheets write it: opened, or named with its remedy, and lines counted right."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.errors import DataError
from mlcore_images.checks.positions import read_positions
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.tables import list_table

HEADER, ROWS = "path,easting_m,northing_m", ["0.jpg,458231.2,5550412.9", "1.jpg,458232.2,555.0"]


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "positions.csv"
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


def eastings_of(path):
    return list_table(path, path.parent, ()).numbers("easting_m")


def error_of(tmp_path, text, encoding="utf-8"):
    path = write(tmp_path, text, encoding)
    with pytest.raises(DataError) as caught:
        eastings_of(path)
    return str(caught.value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    quoted=st.booleans(),
    blank=st.integers(0, 2),
    ends=st.booleans(),
)
def test_plain_csv_opens(tmp_path, newline, encoding, quoted, blank, ends):
    rows = [f'"{row.replace(",", chr(34) + "," + chr(34))}"' if quoted else row for row in ROWS]
    text = newline.join([*[""] * blank, HEADER, *rows]) + newline * ends
    listing = list_table(write(tmp_path, text, encoding), tmp_path, ())
    assert listing.paths.to_pylist() == ["0.jpg", "1.jpg"]
    assert listing.numbers("easting_m").tolist() == [458231.2, 458232.2]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    delimiter=st.sampled_from([(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]),
    decimal_commas=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_other_delimiters_are_named(tmp_path, delimiter, decimal_commas, encoding, newline):
    text = newline.join([HEADER, *ROWS]).replace(",", delimiter[0])
    text = text.replace(".2", ",2") if decimal_commas else text
    message = error_of(tmp_path, text, encoding)
    assert f"its columns are separated by {delimiter[1]}; save it as 'CSV UTF-8'" in message


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "is UTF-16 text; save it as 'CSV UTF-8'"),
        ("utf-32", "is UTF-32 text; save it as 'CSV UTF-8'"),
        ("utf-16-le", "is UTF-16 or UTF-32 text; save it as 'CSV UTF-8'"),
        ("utf-16-be", "is UTF-16 or UTF-32 text; save it as 'CSV UTF-8'"),
    ],
)
def test_wide_encodings_are_named(tmp_path, encoding, said):
    assert said in error_of(tmp_path, "\n".join([HEADER, *ROWS]), encoding)


@pytest.mark.parametrize("line", ["sep=;", '"sep=,"', "SEP=\t"])
def test_the_instruction_to_a_spreadsheet_is_named(tmp_path, line):
    text = "\n".join([line, HEADER, *ROWS])
    assert "remove the first line" in error_of(tmp_path, text)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_a_line_that_is_not_utf8_is_named(tmp_path, encoding):
    text = "\n".join([HEADER, *ROWS, "Straße.jpg,1,2"])
    assert "line 4 is not UTF-8 (Latin-1, perhaps); save it" in error_of(
        tmp_path, text, encoding
    )


def test_decimal_commas_in_quotes_are_named_by_line(tmp_path):
    text = "\n".join([HEADER, ROWS[0], '1.jpg,"458231,2","5550412,9"'])
    assert "line 3: easting_m '458231,2' is not a number; write it like -12.5" in error_of(
        tmp_path, text
    )


@pytest.mark.parametrize("num_rows", [3, 60_000])
def test_a_quoted_newline_moves_the_lines_and_no_value(tmp_path, num_rows):
    """60,000 rows are more than one of the blocks that Arrow reads at once."""
    rows = [f'{row}.jpg,{row},1,"two\nlines, ""quoted"""' for row in range(num_rows)]
    text = "\n".join([f"{HEADER},note", *rows])
    listing = list_table(write(tmp_path, text), tmp_path, ())
    assert listing.numbers("easting_m").tolist() == list(range(num_rows))
    wrong = [*rows[:-1], 'z.jpg,x,1,"two\nlines"']
    message = error_of(tmp_path, "\n".join([f"{HEADER},note", *wrong]))
    assert f"line {2 * num_rows}: easting_m 'x' is not a number" in message


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=st.lists(st.sampled_from(["", "a\nb", "x,y", 'q""q', "\r\n"]), max_size=6),
    note=st.sampled_from(['5"', "plain", '"two\nlines"', '"a\r\nb"', '"say ""no"""']),
    newline=st.sampled_from(["\n", "\r\n"]),
)
def test_the_line_of_a_wrong_value_is_that_of_an_editor(tmp_path, before, note, newline):
    """Whatever quotes, blank lines and newlines within values come before it."""
    rows = [f'{number}.jpg,1,2,"{text}"' if text else "" for number, text in enumerate(before)]
    head = newline.join([f"{HEADER},note", f"n.jpg,1,2,{note}", *rows])
    line = len(head.replace("\r\n", "\n").split("\n")) + 1
    message = error_of(tmp_path, newline.join([head, f"z.jpg,x,1,{note}"]))
    assert f"line {line}: easting_m 'x' is not a number" in message


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["0.jpg,458231,2,5550412,9"],
            "line 2 has 5 values, but the header has 3 columns; write decimal points",
        ),
        (
            ['0.jpg,"1",2', "", "1.jpg,4"],
            "line 4 has 2 values, but the header has 3 columns; write a comma for each value",
        ),
        (
            ['"a\nb.jpg",1,2', '"0.jpg,1,2', "1.jpg,4,5"],
            "line 4 has 1 value, but the header has 3 columns; close every quote",
        ),
    ],
)
def test_rows_of_another_length_are_named_by_line(tmp_path, rows, said):
    assert said in error_of(tmp_path, "\n".join([HEADER, *rows]))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + bytes(400), "is not CSV but an Excel workbook or another zip file"),
        (b"\xd0\xcf\x11\xe0" + bytes(400), "is not CSV but an old Excel workbook; save it as"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "'git lfs pull'"),
        (b"\xef\xbb\xbf <!DOCTYPE html>\n", "is not CSV but HTML or XML"),
        (b'[{"path": "0.jpg"}]', "is not CSV but JSON; save it as 'CSV UTF-8'"),
        (b"PAR1" + bytes(8), "rename it to .parquet"),
        (b"\x1f\x8b\x08" + bytes(8), "compressed by gzip; unpack it"),
        (b"# made by hand\npath,easting_m,northing_m\n", "line must name the columns"),
        (b"path, easting_m, northing_m\n0.jpg, 1, 2\n", "column ' easting_m' has a space"),
        (b"path easting_m northing_m\n0.jpg 1 2\n", "are separated by spaces"),
        (b"path\n0.jpg\n", "no column 'easting_m'; known: path (its columns: path); positions"),
    ],
)
def test_what_is_no_table_of_positions_is_named(tmp_path, content, said):
    path = write(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(said)):
        read_positions(list_table(path, tmp_path, ()), ImagesConfig())
