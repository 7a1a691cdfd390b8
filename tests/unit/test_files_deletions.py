"""Rows of files that are marked as deleted."""

import io
import json
from typing import Any

import pytest
from dedup.files import reading
from dedup.files.columns import names_of
from dedup.files.deletions import FALSE, TRUE
from dedup.files.mapping import ColumnMapping, InvalidMapping, Mapper, NeedsMapping, check
from dedup.files.preview import preview
from dedup.files.reading import read_whole
from dedup.files.tables import Unreadable
from dedup.findings import Findings

HEADER = "customer_id,name,email,is_deleted\n"


def read(content: str, *, deletions: bool = True, mapper: Mapper | None = None) -> list[dict[str, Any]]:
    stream = io.BytesIO(content.encode())
    batches = list(reading.read(stream, "hubspot", mapper=mapper, deletions=deletions))
    fields = ("customer_id", "name", "email", "source")
    rows = [dict(zip((*fields, *batch.known), row, strict=True)) for batch in batches for row in batch.rows]
    return [
        {name: value for name, value in row.items() if name not in ("source", "deleted") or value == "true"}
        for row in rows
    ]


def findings(content: str, *, deletions: bool = False) -> list[tuple[str, str, int, int]]:
    found = Findings()
    for batch in reading.read(io.BytesIO(content.encode()), "hubspot", deletions=deletions):
        found.update(batch.findings)
    return [(kind.warning, kind.field, rows, line) for kind, rows, line in found]


@pytest.mark.parametrize("mark", [*sorted(TRUE), "TRUE", " Yes ", "Y"])
def test_row_that_is_marked_keeps_its_id_and_loses_the_rest(mark: str) -> None:
    rows = read(f"{HEADER}1,Ann,ann@example.com,\n2,Bob,bob@example.com,{mark}\n")

    assert rows == [
        {"customer_id": 1, "name": "Ann", "email": "ann@example.com"},
        {"customer_id": 2, "name": None, "email": None, "deleted": "true"},
    ]


@pytest.mark.parametrize("mark", [*sorted(FALSE), "False", "N"])
def test_row_that_is_not_marked_is_a_record(mark: str) -> None:
    assert read(f"{HEADER}2,Bob,bob@example.com,{mark}\n") == [
        {"customer_id": 2, "name": "Bob", "email": "bob@example.com"}
    ]


@pytest.mark.parametrize("name", names_of("deleted"))
def test_names_of_the_column_are_known(name: str) -> None:
    assert read(f"id,{name}\n5,true\n")[0]["deleted"] == "true"


def test_json_marks_with_booleans_numbers_and_members_of_objects() -> None:
    objects = [
        {"id": "1", "archived": True, "properties": {"email": None, "lastname": "Lee"}},
        {"id": "2", "archived": False, "properties": {"email": "b@example.com"}},
        {"id": "3", "archived": 1, "properties": {"email": 7}},
    ]

    rows = read("".join(f"{json.dumps(one)}\n" for one in objects))

    assert [(row["customer_id"], row["email"], row.get("deleted")) for row in rows] == [
        (1, None, "true"),
        (2, "b@example.com", None),
        (3, None, "true"),
    ]


def test_row_is_marked_if_any_of_several_columns_says_so() -> None:
    rows = read("id,name,IsDeleted,archived\n1,A,false,true\n2,B,,false\n3,C,true,\n")

    assert [row.get("deleted") for row in rows] == ["true", None, "true"]


def test_marked_row_has_no_other_problems_than_that_of_its_id() -> None:
    content = f"{HEADER}1,{'x' * 300},not an address,true\nn/a,Bob,bob@example.com,true\n"

    batches = list(reading.read(io.BytesIO(content.encode()), "hubspot", deletions=True))

    assert [row[0] for batch in batches for row in batch.rows] == [1]
    [rejected] = [row for batch in batches for row in batch.rejected]
    assert (rejected.field, rejected.line, rejected.addresses) == ("customer_id", 3, {"bob@example.com"})
    assert findings(content, deletions=True) == [("", "customer_id", 1, 3)]


def test_marked_row_keeps_the_time_of_its_last_change() -> None:
    [row] = read("id,LastModifiedDate,IsDeleted\n1,2026-11-28T10:00:00Z,true\n")

    assert row["modified_at"] == "2026-11-28T10:00:00.000000Z"


def test_marked_rows_are_left_out_with_a_warning_where_they_are_not_asked_for() -> None:
    content = f"{HEADER}1,Ann,ann@example.com,no\nn/a,Bob,x,yes\n3,Cy,cy@example.com,yes\n"

    assert read(content, deletions=False) == [{"customer_id": 1, "name": "Ann", "email": "ann@example.com"}]
    assert findings(content) == [("deleted_row", "deleted", 2, 3)]
    batches = list(reading.read(io.BytesIO(content.encode()), "hubspot"))
    assert sum(batch.left_out for batch in batches) == 2
    assert not any(batch.rejected for batch in batches)


def test_file_of_marked_rows_alone_adds_nothing() -> None:
    content = f"{HEADER}1,Ann,ann@example.com,yes\n".encode()

    with pytest.raises(Unreadable, match=r"No row was accepted \(0 rejected, 1 marked as deleted\)"):
        list(read_whole(io.BytesIO(content), "hubspot", len(content)))


@pytest.mark.parametrize("deletions", [False, True])
def test_mark_that_is_neither_true_nor_false_marks_nothing_and_is_noticed(deletions: bool) -> None:
    content = f"{HEADER}1,Ann,ann@example.com,2026-01-01\n2,Bob,bob@example.com,true\n"

    assert ("unreadable_mark", "deleted", 1, 2) in findings(content, deletions=deletions)
    assert read(content, deletions=deletions)[0]["name"] == "Ann"


def test_generated_id_is_the_same_with_and_without_a_mark() -> None:
    mapping = ColumnMapping({"who": "name", "gone": "deleted"}, generates_ids=True)

    rows = read("who,gone\nAnn,no\nAnn,yes\n", mapper=Mapper(mapping))

    assert rows[0]["customer_id"] == rows[1]["customer_id"]


def test_mapping_of_ids_and_marks_is_enough() -> None:
    check(ColumnMapping({"no": "customer_id", "gone": "deleted"}), ["no", "gone"], has_source=True)
    with pytest.raises(InvalidMapping):
        check(ColumnMapping({"no": "customer_id"}), ["no"], has_source=True)


def test_column_whose_name_resembles_a_mark_is_proposed_and_decides_nothing_alone() -> None:
    content = "id,name,record removed?\n1,Ann,no\n2,Bob,yes\n"

    assert [row.get("deleted") for row in read(content)] == [None, None]
    with pytest.raises(NeedsMapping) as question:
        read(content, mapper=Mapper(review=True))
    assert question.value.proposal.columns["record removed?"] == "deleted"


def test_preview_shows_no_row_that_is_marked() -> None:
    mapping = ColumnMapping({"no": "customer_id", "who": "name", "gone": "deleted"})

    shown = preview(["no", "who", "gone"], [(2, ["1", "Ann", "x"]), (3, ["2", "", "1"])], mapping, "hubspot")

    assert [record["customer_id"] for record in shown.records] == [1]
    assert shown.rejected == []
