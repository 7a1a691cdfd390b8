"""Exact duplicates: members whose normalised values are equal, and the representative, the first of them.

An exact duplicate of the same source and customer stores no normalised values, so that no limit counts it; an edge
leads from its representative to it, and it is always in the same entity. If somebody decides about it, it gets values
of its own (members.give_values).

The functions here return SQL."""

from collections.abc import Sequence

from dedup.matching import normalise
from dedup.matching.rules import IDENTITY, Rule, content_rules


def normalised_values(member: str, *identity: str) -> str:
    """An expression for what exact duplicates have in common; with columns of `identity`, also those."""
    return f"({', '.join(f'{member}.{column}' for column in (*identity, *normalise.CONTENT))})"


def values_of_customer(member: str) -> str:
    """The same for exact duplicates of one source and customer."""
    return normalised_values(member, *IDENTITY)


def values_hash(member: str) -> str:
    """An expression for a 64-bit hash of the normalised values, which an index can find."""
    return f"hash_record_extended({normalised_values(member)}, 0)"


def is_representative(member: str) -> str:
    """The condition that a member has normalised values of its own."""
    return f"NOT {normalised_values(member)} IS NULL"


def representative_of(member: str, rules: Sequence[Rule]) -> str:
    """An expression for the first of the members in a query that have the same normalised values, if a match rule joins
    those; otherwise for the member's own record."""
    holds = (" AND ".join(f"{member}.{column} IS NOT NULL" for column in rule.equal) for rule in content_rules(rules))
    return f"""CASE WHEN {" OR ".join(f"({one})" for one in holds) or "false"}
        THEN min({member}.record_id) OVER (PARTITION BY {normalised_values(member)}) ELSE {member}.record_id END"""
