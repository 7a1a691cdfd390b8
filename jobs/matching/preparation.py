"""Prepares the table `records`: exact duplicates, values that identify nobody, and keys of candidate pairs.

Each step replaces `records` or adds columns to it. The resolver (incremental.py) runs the same queries on the records
that a change concerns."""

from collections.abc import Sequence

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


# What the steps compute, as queries. `records` is a table, or a query in parentheses, for what follows FROM.


def customer_duplicates(settings: Settings, records: str) -> str:
    """A query (id, representative) for the exact duplicates of an earlier record of the same customer and source, if a
    match rule joins such records. Needs the table `decided`, and all records of the customers that are asked about."""
    joins = bool(identity_rule_of(settings))
    everything = ", ".join(f"r.{column}" for column in (*IDENTITY, *CONTENT))
    return f"""SELECT id, representative FROM (
            SELECT r.id, min(r.id) OVER (PARTITION BY {everything}) AS representative, decided.id AS decided
            FROM {records} AS r
            JOIN (SELECT source, customer_id FROM {records} AS a GROUP BY source, customer_id HAVING count(*) > 1)
                AS several ON several.source = r.source AND several.customer_id = r.customer_id
            LEFT JOIN decided ON decided.id = r.id
            WHERE {str(joins).lower()}
        ) AS same WHERE id <> representative AND decided IS NULL"""


def common_values(settings: Settings, column: str, records: str) -> str:
    """A query for the values of a personal column that records with too many different names have. Exact duplicates of
    one customer make no difference to it."""
    return f"""SELECT {column} FROM {records} AS r WHERE {column} IS NOT NULL GROUP BY {column}
        HAVING count(DISTINCT root) > {settings.constraints.max_names}"""


def without_common_values(settings: Settings, columns: Sequence[str], records: str) -> str:
    """A query for records with these columns, without the values of the tables common_email, …; and with `common`, the
    text of these values: `email=…`, separated by chr(31); null if there are none."""
    personal = settings.constraints.personal
    kept = ", ".join(
        f"CASE WHEN common_{column}.{column} IS NULL THEN r.{column} END AS {column}"
        if column in personal
        else f"r.{column}"
        for column in columns
    )
    joins = " ".join(f"LEFT JOIN common_{c} ON r.{c} = common_{c}.{c}" for c in personal)
    values = ", ".join(f"CASE WHEN common_{c}.{c} IS NOT NULL THEN '{c}=' || r.{c} END" for c in personal)
    common = f"nullif(concat_ws(chr(31), {values}), '')" if personal else "CAST(NULL AS string)"
    return f"SELECT {kept}, {common} AS common FROM {records} AS r {joins}"


def with_common_value(column: str) -> str:
    """The value of a personal column of a record that without_common_values() made, in DuckDB: also if it is common."""
    return f"coalesce({column}, nullif(regexp_extract(common, '(^|\x1f){column}=([^\x1f]*)', 2), ''))"


def represented(settings: Settings, records: str) -> str:
    """A query for the records with their `representative`: the first exact duplicate of any customer if a match rule
    joins these, otherwise the record itself. A record of a decision represents itself. Needs the table `decided`."""
    rules = content_rules(rules_of(settings.model_dump()))
    applies = " OR ".join(f"({' AND '.join(f'r.{column} IS NOT NULL' for column in rule.equal)})" for rule in rules)
    return f"""SELECT r.*, CASE WHEN decided.id IS NULL AND ({applies or "false"})
            THEN min(r.id) OVER (PARTITION BY {", ".join(f"r.{column}" for column in CONTENT)})
            ELSE r.id END AS representative
        FROM {records} AS r LEFT JOIN decided ON decided.id = r.id"""


def key_names(settings: Settings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the keys of match rules and of blocking rules: rule_0, …; block_0, …"""
    rules, blocks = range(len(settings.rules)), range(len(settings.blocking))
    return tuple(f"rule_{n}" for n in rules), tuple(f"block_{n}" for n in blocks)


def keyed(settings: Settings, records: str) -> str:
    """A query for the records with their keys. A key is null if a part of it is missing, and for a record with another
    representative, except for keys of the customer."""
    rules, blocks = key_names(settings)
    parts = dict(
        zip((*rules, *blocks), (*(r.equal for r in settings.rules), *(b.equal for b in settings.blocking)), strict=True)
    )
    keys = []
    for name, columns in parts.items():
        key = " || chr(31) || ".join(key_sql(part) for part in columns)
        of_every_record = name in rules and {*columns} & {*IDENTITY}
        keys.append(f"{key if of_every_record else f'CASE WHEN id = representative THEN {key} END'} AS {name}")
    return f"SELECT r.*, {', '.join(keys)} FROM {records} AS r"


def shared_keys(settings: Settings, name: str, records: str) -> str:
    """A query for the values of a key that several records share, but no more than the constraints allow: `name` of the
    key, and for a rule `hub`, the first of the records, and `records`, their number. `records` have keys."""
    kind, _, number = name.partition("_")
    shared = f"FROM {records} AS r WHERE {name} IS NOT NULL GROUP BY {name}"
    if kind == "block":
        most = settings.blocking[int(number)].at_most
        return f"SELECT {name} {shared} HAVING count(*) BETWEEN 2 AND {most}"
    most = settings.constraints.max_rule_block
    return f"""SELECT {name}, min(id) AS hub, count(*) AS records {shared}
        HAVING count(*) > 1 AND {PEOPLE} <= {most}"""


def usable_keys(settings: Settings, columns: Sequence[str], records: str) -> str:
    """A query for these columns of records, and their keys that are in the tables shared_rule_0, …; other keys are
    null.

    One customer may have any number of different records: if records share a key that is too frequent, but belong
    to few people, rule_0_hub, … has the id of the first of these records instead of the key."""
    rules, blocks = key_names(settings)
    most = settings.constraints.max_rule_block
    usable = [f"CASE WHEN shared_{n}.records <= {most} THEN shared_{n}.{n} END AS {n}" for n in rules]
    usable += [f"CASE WHEN shared_{n}.records > {most} THEN shared_{n}.hub END AS {n}_hub" for n in rules]
    usable += [f"shared_{n}.{n} AS {n}" for n in blocks]
    joins = " ".join(f"LEFT JOIN shared_{n} ON r.{n} = shared_{n}.{n}" for n in (*rules, *blocks))
    kept = ", ".join(f"r.{column}" for column in columns)
    return f"SELECT {kept}, {', '.join(usable)} FROM {records} AS r {joins}"


# The steps, on all records


def remove_customer_duplicates(engine: Engine, settings: Settings, summary: Summary) -> None:
    """Removes exact duplicates of an earlier record of the same customer and source, if a match rule joins such
    records. Makes `customer_duplicate` (id, representative), and `all_record` (id, source, customer_id) of all records.

    Such duplicates are evidence about no other customer. They would teach the model that records never differ, and they
    would use up the limits on how many records may share a value. Records of decisions are kept."""
    engine.create("customer_duplicate", customer_duplicates(settings, "records"))
    engine.create("all_record", f"SELECT id, {', '.join(IDENTITY)} FROM records")
    [(summary.counts["customer_duplicates"],)] = engine.rows("SELECT count(*) FROM customer_duplicate")
    if summary.counts["customer_duplicates"]:
        engine.create(
            "distinct_record",
            "SELECT r.* FROM records r LEFT JOIN customer_duplicate d ON d.id = r.id WHERE d.id IS NULL",
        )
        engine.create("records", "SELECT * FROM distinct_record")


def remove_common_values(engine: Engine, settings: Settings) -> None:
    """Sets values of personal columns to null if records with too many different names have them. Adds the column
    `common`, see without_common_values()."""
    for column in settings.constraints.personal:
        engine.create(f"common_{column}", common_values(settings, column, "records"))
    engine.create("uncommon_record", without_common_values(settings, engine.columns("records"), "records"))
    engine.create("records", "SELECT * FROM uncommon_record")


def add_representatives(engine: Engine, settings: Settings, summary: Summary) -> None:
    """Adds the column `representative`, see represented().

    Only representatives are compared. The others are joined with theirs, whatever the limit on records that share a
    value."""
    engine.create("represented_record", represented(settings, "records"))
    engine.create("records", "SELECT * FROM represented_record")
    [(summary.counts["exact_duplicates"],)] = engine.rows("SELECT count(*) FROM records WHERE id <> representative")


def add_keys(engine: Engine, settings: Settings) -> None:
    """Adds the keys that records share if a match rule joins them (rule_0, …) or if they are a candidate pair (block_0,
    …), see usable_keys()."""
    columns = engine.columns("records")
    engine.create("keyed_record", keyed(settings, "records"))
    rules, blocks = key_names(settings)
    for name in (*rules, *blocks):
        engine.create(f"shared_{name}", shared_keys(settings, name, "keyed_record"))
    engine.create("records", usable_keys(settings, columns, "keyed_record"))


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
