"""Defects that are known and not mended yet: what a campaign keeps away from, each by a name of its own.

AVOID (names, separated by commas; empty for none) is asked in place of the list. Whoever mends one takes its name out.
"""

import os

KNOWN = frozenset(
    {
        # DELETE with an empty parameter reaches the function of the shorter path.
        "empty_parameter",
        # A region is a branch of a UNION: 9,000 of them are more than PostgreSQL takes.
        "many_regions",
        # Records that repeat one another, and a deletion of many, take the square of their number with an active run.
        "quadratic",
        # The report of a run whose thresholds no float holds.
        "report_overflow",
        # A body of many tiny items that are all wrong.
        "tiny_items",
    }
)


def avoids(name: str) -> bool:
    """Whether a campaign is to keep away from a known defect."""
    assert name in KNOWN
    asked = os.environ.get("AVOID")
    return name in (KNOWN if asked is None else asked.split(","))
