"""The rules in force, in words: what a record has to be, and what makes records one person. Each is named, and says."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dedup.matching import scoring
from dedup.matching.rules import Rule, rules_of
from dedup.records import KNOWN, Record

Said = list[tuple[str, str]]

_COLUMNS = {
    "given": "given name",
    "root": "given name or a short form of it",
    "formal": "full given name",
    "family": "family name",
}
"""Columns of a record's comparable form. The others' names say what they are."""


def of_records(sources: Sequence[str]) -> Said:
    """What holds of sources, customers and uploads, and of each field of a record."""
    fields = Record.model_json_schema()["properties"]
    return [
        ("Sources", ", ".join(sources)),
        ("Customers", "Told apart by customer_id alone"),
        ("Uploads", "Stored whole or not at all; the same upload again changes nothing"),
        *((name, _field(fields[name])) for name in ("customer_id", "name", "email", *KNOWN)),
    ]


def _field(schema: Mapping[str, Any]) -> str:
    needed = "anyOf" not in schema
    schema = schema if needed else schema["anyOf"][0]
    says = ["Needed" if needed else "May be left out"]
    if schema["type"] == "integer":
        says.append("a whole number of 64 bits")
    elif schema.get("format") == "email":
        says.append("an address as RFC 5322 has it, of a domain that is not reserved")
    else:
        says.append(
            f"{schema.get('minLength', 0)} to {schema['maxLength']} characters, none of them a control character"
        )
    return "; ".join(says)


def of_matching(settings: Mapping[str, Any], model: Mapping[str, Any]) -> Said:
    """What the settings of a run and its model say, the strongest first."""
    methods, thresholds, constraints = (
        settings.get("methods", ("rules", "model")),
        settings["thresholds"],
        settings["constraints"],
    )
    said: Said = []
    if "rules" in methods:
        said += [(f"Rule {rule.name}", _rule(rule)) for rule in rules_of(settings)]
        said.append(
            ("Shared values", f"What more than {constraints['max_rule_block']:,} records share joins none by a rule")
        )
    if "model" in methods:
        match, review, confident = (thresholds[name] for name in ("match", "review", "confident"))
        said += [
            ("Model", f"Version {model['version']}, learnt from {model['records']:,} records"),
            ("Compared", _all(_column(one["name"]) for one in settings["comparisons"])),
            ("One person", f"From match weight {match:+g} on: {scoring.probability(match):.1%} likely"),
            ("Asked of people", f"Match weights from {review:+g} to {confident:+g}"),
            *((f"Veto {veto['name']}", _veto(veto)) for veto in constraints.get("vetoes", ())),
        ]
    once = "those of one customer, and those that say the same, counted once"
    said.append(("Most records of a person", f"{constraints['max_entity']:,}, {once}"))
    if constraints["contradictions"]:
        contradicting = _all(map(_column, constraints["contradictions"]), "or")
        said.append(("Contradictions", f"Records of another {contradicting} are not joined by way of other records"))
    return said


def _rule(rule: Rule) -> str:
    says = f"The same {_all(map(_column, rule.equal))}"
    if rule.unless_different:
        says += f", unless the {_all(map(_column, rule.unless_different), 'or')} differs"
    return says


def _veto(veto: Mapping[str, Any]) -> str:
    says = f"Never with another {_all(map(_column, (*veto.get('other', ()), *veto['differ'])))}"
    alike = sorted(f"{_column(name)} ({_all(levels, 'or')})" for name, levels in veto["unless"].items())
    return f"{says}, unless alike in {_all(alike, 'or')}" if alike else says


def _column(key: str) -> str:
    name, _, letters = key.partition(":")
    says = _COLUMNS.get(name, name.replace("_", " "))
    return f"first {letters} letters of {says}" if letters else says


def _all(names: Iterable[str], word: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
