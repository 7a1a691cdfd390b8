"""Reads files of CRMs and spreadsheets as records and rejected rows.

    bytes → decompressed bytes → text → rows → columns of our fields → records
                               ↘ temporary file → cells ↗

`reading` puts the steps together. Each is a generator that holds about CHUNK bytes of the file, whatever its size:
`compression`, `text`, `formats` (`csv_rows` and `json_rows`, with the decision about columns in `mapping`), `values`,
`dates` and `checks`. Workbooks (`workbooks`, with `xlsx_sheets` and `ods_sheets`) and Parquet (`parquet_rows`) are read
from a temporary file (`spool`), because their index is at their end; `cell_rows` makes tables of their cells. `cells`
writes CSV that is safe to open in a spreadsheet.

The package itself imports nothing: API functions need the rules of mappings, but none of the readers."""
