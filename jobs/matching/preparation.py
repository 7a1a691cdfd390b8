"""Prepares the table `records`: exact duplicates, values that identify nobody, and keys of candidate pairs.

Each function replaces `records` or adds columns to it."""

from dedup.matching.clustering import ALIKE
from dedup.matching.normalise import CONTENT
from dedup.matching.rules import IDENTITY, Rule, content_rules, identity_rule, rules_of
from dedup.matching.settings import Settings

from jobs.matching.engine import Engine
from jobs.matching.model import Waived
from jobs.matching.scoring import key_sql
from jobs.matching.summary import Summary

PEOPLE = "least(count(DISTINCT representative), count(DISTINCT source || chr(31) || customer_id))"
"""The most people that a group of records can be: dedup.matching.rules.count_people in SQL."""


def identity_rule_of(settings: Settings) -> Rule | None:
    """The match rule that joins all records of one customer of one source, if there is one."""
    return identity_rule(rules_of(settings.model_dump()))


def remove_customer_duplicates(engine: Engine, settings: Settings, summary: Summary) -> None:
    """Removes exact duplicates of an earlier record of the same customer and source, if a match rule joins such
    records. Makes `customer_duplicate` (id, representative), and `all_record` (id, source, customer_id) of all records.

    Such duplicates are evidence about no other customer. They would teach the model that records never differ, and they
    would use up the limits on how many records may share a value. Records of decisions are kept."""
    joins = bool(identity_rule_of(settings))
    everything = ", ".join(f"r.{column}" for column in (*IDENTITY, *CONTENT))
    engine.create(
        "customer_duplicate",
        f"""SELECT id, representative FROM (
            SELECT r.id, min(r.id) OVER (PARTITION BY {everything}) AS representative, decided.id AS decided
            FROM records r
            JOIN (SELECT source, customer_id FROM records GROUP BY source, customer_id HAVING count(*) > 1) AS several
                ON several.source = r.source AND several.customer_id = r.customer_id
            LEFT JOIN decided ON decided.id = r.id
            WHERE {str(joins).lower()}
        ) AS same WHERE id <> representative AND decided IS NULL""",
    )
    engine.create("all_record", f"SELECT id, {', '.join(IDENTITY)} FROM records")
    [(summary.counts["customer_duplicates"],)] = engine.rows("SELECT count(*) FROM customer_duplicate")
    if summary.counts["customer_duplicates"]:
        engine.create(
            "distinct_record",
            "SELECT r.* FROM records r LEFT JOIN customer_duplicate d ON d.id = r.id WHERE d.id IS NULL",
        )
        engine.create("records", "SELECT * FROM distinct_record")


def remove_common_values(engine: Engine, settings: Settings) -> None:
    """Sets values of personal columns to null if records with too many different names have them."""
    constraints = settings.constraints
    if not constraints.personal:
        return
    for column in constraints.personal:
        engine.create(
            f"common_{column}",
            f"""SELECT {column} FROM records WHERE {column} IS NOT NULL GROUP BY {column}
                HAVING count(DISTINCT root) > {constraints.max_names}""",
        )
    kept = ", ".join(
        f"CASE WHEN common_{column}.{column} IS NULL THEN records.{column} END AS {column}"
        if column in constraints.personal
        else f"records.{column}"
        for column in engine.columns("records")
    )
    joins = " ".join(f"LEFT JOIN common_{c} ON records.{c} = common_{c}.{c}" for c in constraints.personal)
    engine.create("without_common_values", f"SELECT {kept} FROM records {joins}")
    engine.create("records", "SELECT * FROM without_common_values")


def add_representatives(engine: Engine, settings: Settings, summary: Summary) -> None:
    """Adds the column `representative`: the first exact duplicate of any customer if a match rule joins these,
    otherwise the record itself. A record of a decision represents itself.

    Only representatives are compared. The others are joined with theirs, whatever the limit on records that share a
    value."""
    rules = content_rules(rules_of(settings.model_dump()))
    applies = " OR ".join(f"({' AND '.join(f'r.{column} IS NOT NULL' for column in rule.equal)})" for rule in rules)
    engine.create(
        "represented",
        f"""SELECT r.*, CASE WHEN decided.id IS NULL AND ({applies or "false"})
                THEN min(r.id) OVER (PARTITION BY {", ".join(f"r.{column}" for column in CONTENT)})
                ELSE r.id END AS representative
            FROM records r LEFT JOIN decided ON decided.id = r.id""",
    )
    engine.create("records", "SELECT * FROM represented")
    [(summary.counts["exact_duplicates"],)] = engine.rows("SELECT count(*) FROM records WHERE id <> representative")


def add_keys(engine: Engine, settings: Settings) -> None:
    """Adds the keys that records share if a match rule joins them (rule_0, …) or if they are a candidate pair (block_0,
    …). A key is null if a part of it is missing, or if more records than the constraints allow share it.

    One customer may have any number of different records: if records share a key that is too frequent, but belong
    to few people, rule_0_hub, … has the id of the first of these records instead of the key."""
    rules = [(f"rule_{n}", rule.equal) for n, rule in enumerate(settings.rules)]
    blocks = [(f"block_{n}", block.equal) for n, block in enumerate(settings.blocking)]
    keys = []
    for name, parts in (*rules, *blocks):
        key = " || chr(31) || ".join(key_sql(part) for part in parts)
        of_every_record = name.startswith("rule") and {*parts} & {*IDENTITY}
        keys.append(f"{key if of_every_record else f'CASE WHEN id = representative THEN {key} END'} AS {name}")
    engine.create("keyed", f"SELECT *, {', '.join(keys)} FROM records")
    most = settings.constraints.max_rule_block
    for name, _ in rules:
        engine.create(
            f"shared_{name}",
            f"""SELECT {name}, min(id) AS hub, count(*) AS records FROM keyed WHERE {name} IS NOT NULL GROUP BY {name}
                HAVING count(*) > 1 AND {PEOPLE} <= {most}""",
        )
    for (name, _), block in zip(blocks, settings.blocking, strict=True):
        engine.create(
            f"shared_{name}",
            f"""SELECT {name} FROM keyed WHERE {name} IS NOT NULL GROUP BY {name}
                HAVING count(*) BETWEEN 2 AND {block.at_most}""",
        )
    usable = [f"CASE WHEN shared_{n}.records <= {most} THEN shared_{n}.{n} END AS {n}" for n, _ in rules]
    usable += [f"CASE WHEN shared_{n}.records > {most} THEN shared_{n}.hub END AS {n}_hub" for n, _ in rules]
    usable += [f"shared_{n}.{n} AS {n}" for n, _ in blocks]
    joins = " ".join(f"LEFT JOIN shared_{n} ON keyed.{n} = shared_{n}.{n}" for n, _ in (*rules, *blocks))
    kept = ", ".join(f"keyed.{column}" for column in engine.columns("records"))
    engine.create("records", f"SELECT {kept}, {', '.join(usable)} FROM keyed {joins}")


def waived_constraints(engine: Engine, settings: Settings, summary: Summary) -> tuple[Waived, ...]:
    """The constraints that a model version trained from these records waives: those that keep the people of a household
    apart, if the records show no households."""
    constraints = settings.constraints
    [(pairs, different)] = engine.rows(
        f"""SELECT count(*), coalesce(sum(CASE WHEN l.root <> r.root
                AND levenshtein(l.date_of_birth, r.date_of_birth) > 2
                AND {engine.jaro_winkler}(l.given, r.given) < {ALIKE} THEN 1 ELSE 0 END), 0)
            FROM (SELECT address, postcode, family FROM records GROUP BY address, postcode, family
                  HAVING count(*) BETWEEN 2 AND {constraints.max_entity}) AS home
            JOIN records l ON l.address = home.address AND l.postcode = home.postcode AND l.family = home.family
            JOIN records r ON r.address = home.address AND r.postcode = home.postcode AND r.family = home.family
            WHERE l.id < r.id AND l.given IS NOT NULL AND r.given IS NOT NULL
                AND l.date_of_birth IS NOT NULL AND r.date_of_birth IS NOT NULL"""
    )
    summary.counts |= {"home_pairs": pairs, "home_pairs_of_two_people": int(different)}
    if pairs < constraints.households.from_pairs or different >= constraints.households.at_least * pairs:
        return ()
    return "vetoes", "contradictions"
