"""What is read of Parquet files."""

import io
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow
import pytest
from dedup.files.reading import read
from pyarrow import parquet as pq

from tests.unit.test_files_cells import ANN, load, reason_of, values


def parquet_of(columns: Mapping[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pyarrow.table(dict(columns)), file, **options)
    return file.getvalue()


BASE = {"Id": [1, 2], "name": ["Ann", "Bob"], "email": ["ann@example.com", "bob@example.com"]}


@pytest.mark.parametrize(
    ("column", "of_type", "expected"),
    [
        ([2**63 - 1, None], pyarrow.int64(), [str(2**63 - 1), None]),
        ([1.0, 0.1], pyarrow.float64(), ["1", "0.1"]),
        ([float("nan"), float("inf")], pyarrow.float64(), [None, None]),
        ([0.1, 2], pyarrow.float32(), ["0.1", "2"]),
        ([Decimal("12.50"), Decimal(100)], pyarrow.decimal128(38, 2), ["12.5", "100"]),
        ([Decimal(10**37), None], pyarrow.decimal128(38, 0), [str(10**37), None]),
        ([True, False], pyarrow.bool_(), ["true", "false"]),
        ([date(1950, 1, 16), None], pyarrow.date32(), ["1950-01-16", None]),
        (
            [datetime(1950, 1, 16), datetime(2024, 2, 29, 18, 5)],
            pyarrow.timestamp("us"),
            ["1950-01-16", "2024-02-29T18:05:00"],
        ),
        (
            [datetime(2024, 2, 29, 18, tzinfo=UTC), None],
            pyarrow.timestamp("us", tz="Europe/Berlin"),
            ["2024-02-29T18:00:00Z", None],
        ),
        ([time(1, 2), None], pyarrow.time64("us"), ["01:02:00", None]),
        (["a", ""], pyarrow.dictionary(pyarrow.int32(), pyarrow.string()), ["a", None]),
        ([b"bytes", None], pyarrow.binary(), ["bytes", None]),
        ([["a", None, "b"], []], pyarrow.list_(pyarrow.string()), ["a; b", None]),
        ([[2**60], None], pyarrow.list_(pyarrow.int64()), [str(2**60), None]),
        (
            [[{"kind": "home"}], None],
            pyarrow.list_(pyarrow.struct({"kind": pyarrow.string()})),
            ['[{"kind":"home"}]', None],
        ),
        ([[("a", 1)], None], pyarrow.map_(pyarrow.string(), pyarrow.int64()), ['{"a":1}', None]),
        ([None, None], pyarrow.null(), [None, None]),
    ],
    ids=lambda value: str(value) if isinstance(value, pyarrow.DataType) else "",
)
def test_parquet_value_of_each_type(column: list[Any], of_type: pyarrow.DataType, expected: list[str | None]) -> None:
    # The first array that is made imports pandas: none is made in the cases above.
    assert values(parquet_of(BASE | {"phone": pyarrow.array(column, of_type)})) == expected


def test_parquet_id_is_exact_or_rejected() -> None:
    ids = [2**63 - 1, -(2**63)]
    assert [row[0] for row in load(parquet_of(BASE | {"Id": ids})).rows] == ids
    decimals = pyarrow.array([Decimal(2**62), Decimal("7.00")], pyarrow.decimal128(38, 2))
    assert [row[0] for row in load(parquet_of(BASE | {"Id": decimals})).rows] == [2**62, 7]
    batch = load(parquet_of(BASE | {"Id": [123.0, 2.0**53]}))
    assert [row[0] for row in batch.rows] == [123]
    assert [(one.line, one.field) for one in batch.rejected] == [(2, "customer_id")]
    assert "has lost digits" in batch.rejected[0].reason


def test_nested_address_of_salesforce_is_flattened_by_name() -> None:
    address = [
        {"street": "1 High St", "city": "Ulm", "postalCode": "89073", "country": "DE", "geo": {"lat": 1.5}},
        None,
    ]
    [batch] = read(io.BytesIO(parquet_of(BASE | {"MailingAddress": address})), "hubspot")
    assert batch.known == ("address", "city", "postcode", "country")
    assert [row[4:] for row in batch.rows] == [("1 High St", "Ulm", "89073", "DE"), (None,) * 4]


def test_record_that_airbyte_wraps_is_read() -> None:
    wrapped = [{"customer_id": 1, "name": "Ann Lee", "email": "ann@example.com"}]
    data = parquet_of(
        {"_airbyte_raw_id": ["x"], "_airbyte_extracted_at": [datetime(2024, 1, 1)], "_airbyte_data": wrapped}
    )
    assert load(data).rows == [ANN]


def test_parquet_as_spark_writes_it() -> None:
    born = pyarrow.array([datetime(1950, 1, 16), None])
    data = parquet_of(
        BASE | {"birthdate": born}, use_deprecated_int96_timestamps=True, compression="snappy", row_group_size=1
    )
    assert values(data, "date_of_birth") == ["1950-01-16", None]


def test_parquet_without_a_usable_header_or_rows() -> None:
    assert "no column for any of name, email" in reason_of(parquet_of({"Id": [1], "city": ["A"]}))
    assert (
        reason_of(parquet_of({"Id": pyarrow.array([], pyarrow.int64()), "name": [], "email": []}))
        == "The file has no rows"
    )
    assert "Encrypted Parquet" in reason_of(b"PARE" + bytes(100))


def test_names_of_columns_cannot_be_read_as_sql() -> None:
    hostile = {'a"b': ["x", "y"], "'; --": [{"c'd": 1, 'e"f': 2}] * 2, "select": [1, 2]}
    assert len(load(parquet_of(BASE | hostile)).rows) == 2


def test_rejected_row_keeps_its_values() -> None:
    data = parquet_of(
        {"Id": ["1", "2e9"], "name": ["Ann", ""], "email": ["ann@example.com", "a, b"], "x": [["p", "q"], None]}
    )
    [rejected] = load(data).rejected
    assert (rejected.line, rejected.row, rejected.customer_id) == (2, '2e9,,"a, b",', None)


def test_parquet_bomb_is_refused() -> None:
    column = pyarrow.array(["x" * 30_000] * 3_000).dictionary_encode()
    data = parquet_of({"id": [1] * 3_000, "name": ["A"] * 3_000, "email": ["a@b.co"] * 3_000, "x": column})
    assert "more than 200 times its size" in reason_of(data)
