"""Describes the rules of records and of matching in words, as pairs of name and definition."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dedup.matching import scoring
from dedup.matching.rules import Rule, rules_of, without_waived
from dedup.records import DETAILS, FURTHER, MAX_ATTRIBUTE, NOTHING_IDENTIFYING, Record

Rules = list[tuple[str, str]]

_COLUMNS = {
    "given": "given name",
    "root": "given name or nickname",
    "formal": "full given name",
    "family": "family name",
}
"""Words for columns of the normalised values whose name is not clear by itself."""


def of_records(sources: Sequence[str]) -> Rules:
    """Returns the rules of sources, customers, uploads, and each field of a record."""
    schema = Record.model_json_schema()
    fields, required = schema["properties"], {name for name in schema["required"] if name not in DETAILS}
    return [
        ("Sources", ", ".join(sources)),
        ("Customers", "Identified by customer_id only"),
        ("Uploads", "All accepted rows are stored, or none; repeating an upload changes nothing"),
        ("Records", NOTHING_IDENTIFYING),
        *((name, _field(fields[name], name in required)) for name in ("customer_id", *DETAILS, *FURTHER)),
    ]


def _field(schema: Mapping[str, Any], required: bool) -> str:
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if schema["type"] == "integer":
        kind = "64-bit integer"
    elif schema.get("format") == "email":
        kind = "email address (RFC 5322) of a domain that is not reserved"
    elif schema.get("format") == "date-time":
        kind = "date and time (ISO 8601)"
    elif schema["type"] == "array":
        kind = f"at most {schema['maxItems']} values"
    elif schema["type"] == "object":
        kind = f"at most {schema['maxProperties']} texts by name, {MAX_ATTRIBUTE:,} characters each"
    else:
        kind = f"{schema.get('minLength', 0)} to {schema['maxLength']} characters, no control characters"
    return f"{'Required' if required else 'Optional'}; {kind}"


def of_matching(settings: Mapping[str, Any], model: Mapping[str, Any]) -> Rules:
    """Returns the rules of a run's settings and match model, the strongest first."""
    settings = without_waived(settings, model["waived"])
    methods, thresholds, constraints = (
        settings.get("methods", ("rules", "model")),
        settings["thresholds"],
        settings["constraints"],
    )
    rules: Rules = []
    if "rules" in methods:
        rules += [(f"Rule {rule.name}", _rule(rule)) for rule in rules_of(settings)]
        most = constraints["max_rule_block"]
        rules.append(("Shared values", f"Match rules ignore values that more than {most:,} people share"))
    if "model" in methods:
        match, review, confident = (thresholds[name] for name in ("match", "review", "confident"))
        rules += [
            ("Match model", f"Version {model['version']}, of a run over {model['records']:,} records"),
            ("Comparisons", _all(_column(one["name"]) for one in settings["comparisons"])),
            (
                "Match threshold",
                f"Match weight of at least {match:+g}, a probability of {scoring.probability(match):.1%}",
            ),
            ("Review", f"Match weights from {review:+g} to {confident:+g}"),
            *((f"Veto {veto['name']}", _veto(veto)) for veto in constraints.get("vetoes", ())),
        ]
    size = f"{constraints['max_entity']:,}"
    rules.append(("Size limit", f"At most {size} customers or distinct records per person, whichever is fewer"))
    if constraints["contradictions"]:
        contradicting = _all(map(_column, constraints["contradictions"]), "or")
        rules.append(("Contradictions", f"Records with a different {contradicting} are not joined by other records"))
    return rules


def _rule(rule: Rule) -> str:
    text = f"Same {_all(map(_column, rule.equal))}"
    if rule.unless_different:
        text += f", unless the {_all(map(_column, rule.unless_different), 'or')} differs"
    return text


def _veto(veto: Mapping[str, Any]) -> str:
    columns = [*map(_column, (*veto.get("other", ()), *veto["differ"]))]
    text = f"No match if {_all(columns)} {'differ' if len(columns) > 1 else 'differs'}"
    similar = sorted(f"{_column(name)} ({_all(levels, 'or')})" for name, levels in veto["unless"].items())
    return f"{text}, unless similar in {_all(similar, 'or')}" if similar else text


def _column(key: str) -> str:
    name, _, letters = key.partition(":")
    words = _COLUMNS.get(name, name.replace("_", " "))
    return f"first {letters} letters of {words}" if letters else words


def _all(names: Iterable[str], word: str = "and") -> str:
    *most, last = names
    return f"{', '.join(most)} {word} {last}" if most else last
