"""An attempt to load a file, as every part of the load knows it."""

from dataclasses import dataclass
from typing import Any, Literal

from dedup.file_options import DEFAULT, FileOptions

Decision = Literal["apply", "release"]


@dataclass(frozen=True)
class Load:
    """One attempt to load one upload."""

    id: int
    attempt: int
    lease: float
    """Seconds without a renewal after which another attempt may start over."""
    options: FileOptions = DEFAULT
    mode: str = "add"
    source: str | None = None
    """Of the rows, as the upload states it."""
    mapping: dict[str, Any] | None = None
    """The column mapping that the sender stated, as dedup.files.ColumnMapping.as_json() has it."""
    review: bool = False
    """The sender wants to check the mapping."""
    dry_run: bool = False
    """The sender wants to see what the file would do."""
    decision: Decision | None = None
    """What was decided about an earlier attempt, which ended in a preview or was held."""

    @property
    def table(self) -> str:
        """Where its rows are staged."""
        return f"staging.upload_{self.id}_{self.attempt}"
