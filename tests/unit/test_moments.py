from datetime import UTC, datetime

import pytest
from dedup.moments import Ambiguous, Column, iso_moment
from hypothesis import given
from hypothesis import strategies as st


def read(*values: str) -> list[str | None]:
    """What a column of these values is read as; None for those that are ambiguous."""
    column = Column()
    column.learn(values)
    found: list[str | None] = []
    for value in values:
        try:
            found.append(column.read(value).removesuffix(".000000Z"))
        except Ambiguous:
            found.append(None)
    return found


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-01-16T10:22:33.000+0000", "2024-01-16T10:22:33"),
        ("2024-01-16T10:22:33+05:30", "2024-01-16T04:52:33"),
        ("2024-01-16 10:22:33 -0500", "2024-01-16T15:22:33"),
        ("2024-01-16 10:22:33 UTC", "2024-01-16T10:22:33"),
        ("2024-01-16t10:22:33.000z", "2024-01-16T10:22:33"),
        ("2024-01-16 10:22", "2024-01-16T10:22:00"),
        ("2024/01/16 10:22", "2024-01-16T10:22:00"),
        ("2024-01-16", "2024-01-16T00:00:00"),
        ("16/01/2024 10:22", "2024-01-16T10:22:00"),
        ("1/16/2024 10:22 PM", "2024-01-16T22:22:00"),
        ("1/16/2024, 12:05:09\u202fa.m.", "2024-01-16T00:05:09"),
        ("16.01.2024 10:22", "2024-01-16T10:22:00"),
        ("03.04.2024", "2024-04-03T00:00:00"),
        ("03/03/2024", "2024-03-03T00:00:00"),
        ("16 Jan 2024, 10:22", "2024-01-16T10:22:00"),
        ("16-Jan-2024", "2024-01-16T00:00:00"),
        ("September 6, 2024 at 7:05 PM", "2024-09-06T19:05:00"),
        ("1705400553", "2024-01-16T10:22:33"),
        ("1705400553000", "2024-01-16T10:22:33"),
        ("1705400553000000", "2024-01-16T10:22:33"),
        ("1705400553.5", "2024-01-16T10:22:33.500000Z"),
    ],
)
def test_spelling_of_a_system_is_read(written: str, meant: str) -> None:
    assert read(written) == [meant]


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2024-02-30", "32/01/2024", "13/13/2024", "16 Foo 2024", "45307.4", "1/16/2024 13:00 PM",
     "0001-01-01T00:00+05:00", "9" * 100, "2024-01-01" + " " * 10_000, "1705400553e3", "１６/01/2024"],
)  # fmt: skip
def test_text_that_is_no_point_in_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 # each has its own message
        Column().read(text)


def test_column_decides_in_which_order_day_and_month_are() -> None:
    assert read("03/04/2024", "16/04/2024") == ["2024-04-03T00:00:00", "2024-04-16T00:00:00"]
    assert read("03/04/2024", "04/16/2024") == ["2024-03-04T00:00:00", "2024-04-16T00:00:00"]
    assert read("03/04/2024 9:00 AM") == ["2024-03-04T09:00:00"]
    # Australia writes AM and PM too.
    assert read("03/04/2024 9:00 AM", "16/04/2024 9:00 AM")[0] == "2024-04-03T09:00:00"
    assert read("03/04/2024") == [None]
    assert read("03/04/2024", "16/04/2024", "04/16/2024") == [None, "2024-04-16T00:00:00", "2024-04-16T00:00:00"]


@given(st.datetimes(timezones=st.timezones()), st.sampled_from(["T", " "]))
def test_every_point_in_time_of_python_is_read_and_results_come_back_unchanged(moment: datetime, between: str) -> None:
    try:
        in_utc = moment.astimezone(UTC)
    except OverflowError:
        return
    written = moment.isoformat(sep=between)

    found = Column().read(written)

    assert datetime.fromisoformat(found) == in_utc
    assert iso_moment(found) == found == Column().read(found)


@given(st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), min_size=1))
def test_column_of_one_order_is_never_read_in_the_other(moments: list[datetime]) -> None:
    for order in ("%d/%m/%Y", "%m/%d/%Y"):
        for moment, found in zip(moments, read(*(moment.strftime(order) for moment in moments)), strict=True):
            assert found in (None, moment.strftime("%Y-%m-%dT00:00:00"))


def test_order_that_is_stated_decides() -> None:
    for stated, meant in (("DMY", "2024-04-03T00:00:00"), ("MDY", "2024-03-04T00:00:00")):
        column = Column(stated)
        column.learn(["03/04/2024"])
        assert column.read("03/04/2024").startswith(meant)
