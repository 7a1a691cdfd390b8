"""How the sender of a file wants it to be read."""

from typing import NamedTuple


class FileOptions(NamedTuple):
    """What the sender of a file may choose.

    `sheet` names the sheet of a workbook; by default, it is the first with a table. If `strict`, a row whose email is
    not a valid address is rejected instead of accepted with a warning."""

    sheet: str | None = None
    strict: bool = False


DEFAULT = FileOptions()
