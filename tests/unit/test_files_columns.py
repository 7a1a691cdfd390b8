"""Columns are checked as a whole where that is possible: the result is the same as that of each row alone."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from dedup.files.reading import read_whole
from dedup.files.tables import Unreadable
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import budget

HEADER = ("customer_id", "name", "email", "source", "company")

ids = (
    st.integers(-(2**63), 2**63 - 1).map(str)
    | st.integers(0, 10**19).map(str)
    | st.sampled_from(["0", "007", "9223372036854775807", "9223372036854775808", "1\n2", "1,234", "1.0", "1E5", "٣"])
    | st.sampled_from(
        ["n/a", "NULL", '="42"', "'42", "ab-12", "0012000000abcdE", "0012000000abcdEAAQ", "E-1", "a\tb", ""]
    )
)
names = st.sampled_from(["Ann", "Zoë O'Neill", "Ann\tLee", "x" * 255, "x" * 256, "a\0b", "'+4", "", " "])
plain_emails = st.builds(
    "{}@{}".format, st.from_regex(r"[a-z]{1,5}(\.[a-z0-9]{1,5})?", fullmatch=True), st.just("b.co")
)
odd_emails = st.builds(
    "{}@{}".format,
    st.text("aBz09._+-@\n", max_size=6) | st.sampled_from(["info", "Info", "SALES", "Sales.x", "a" * 64, "a" * 65]),
    st.sampled_from(["example.com", "a.test", "EXAMPLE.com", "b.co\nx@b.co", ""]),
) | st.sampled_from(["", "example.com", "a@b.co;c@b.co", "@"])
sources = st.sampled_from(["hubspot", "HubSpot", "internal", "unknown", ""])

rows = st.tuples(ids, names, plain_emails | odd_emails, sources, names)
usual_rows = st.tuples(st.integers(0, 2**63).map(str), st.just("Ann"), plain_emails, st.just("hubspot"), st.just("b"))


def load(cells: Sequence[tuple[str, ...]], given_source: str | None) -> tuple[list[Any], list[tuple[str, ...]]]:
    """The accepted rows of a file, with their optional fields, and the rejected ones: fields and reason."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *cells])
    data = text.getvalue().encode()
    accepted: list[Any] = []
    rejected: list[tuple[str, ...]] = []
    try:
        for batch in read_whole(io.BytesIO(data), given_source, len(data)):
            for row in batch.rows:
                known = {name: value for name, value in zip(batch.known, row[4:], strict=True) if value is not None}
                accepted.append((row[:4], known))
            rejected += [(row.field, row.reason) for row in batch.rejected]
    except Unreadable:
        pass
    return accepted, rejected


@given(
    st.lists(rows | usual_rows, min_size=2, max_size=5) | st.lists(usual_rows, min_size=2),
    st.sampled_from([None, "hubspot"]),
)
@settings(max_examples=budget(150, 2000), deadline=None)
def test_rows_of_a_file_have_the_result_that_each_has_alone(cells: list[tuple[str, ...]], source: str | None) -> None:
    alone = [load([row], source) for row in cells]

    accepted, rejected = load(cells, source)

    assert rejected == [row for _, found in alone for row in found]
    assert accepted == [row for found, _ in alone for row in found]


def test_integers_of_19_digits_and_text_ids_are_accepted() -> None:
    cells = [(number, "Ann", "a@b.co", "hubspot", "") for number in (str(2**63 - 1), str(2**63), "8a-1")]

    accepted, rejected = load(cells, None)

    assert [row[0] for row, _ in accepted] == [2**63 - 1, str(2**63), "8a-1"]
    assert rejected == []
