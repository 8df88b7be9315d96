"""CSV as spreadsheets write it: opened, or named with its remedy, and lines counted right."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlcore.errors import DataError
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
