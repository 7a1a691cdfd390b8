"""Matches records: match rules first, then the match model, then clusters under the constraints."""

from collections.abc import Callable

from dedup.matching.rules import conventions_of
from dedup.matching.settings import Settings
from splink import Linker

from jobs import BadInput
from jobs.matching import outputs, preparation, scoring, training
from jobs.matching.clustering import create_clusters, create_entities
from jobs.matching.decisions import Decisions
from jobs.matching.edges import NO_MODEL_EDGES, create_rule_edges
from jobs.matching.engine import Engine
from jobs.matching.model import Model
from jobs.matching.summary import Summary


def match(
    engine: Engine,
    source: str,
    output: str,
    settings: Settings,
    *,
    decisions: Decisions | None = None,
    previous: str | None = None,
    model: Model | None = None,
    first_id: int = 1,
    report: Callable[[str], None] = lambda step: None,
) -> Summary:
    """Matches the records of `source` and writes the files of jobs.matching.outputs to `output`.

    `source`: path of the records, or "" if the engine already has the table `raw`. `previous`: path of an earlier
    entities.parquet; an entity keeps its id if most of its records stay together. `model`: used unchanged; if None, a
    model is trained, or the default model is used if there are too few records. `first_id`: lowest id of new entities,
    which are also above those of `previous`. `report`: called with the name of each step before it begins. Raises
    BadInput."""
    summary = Summary(engine.name, settings, report=report)
    with summary.step("read"):
        applied = _prepare(engine, source, settings, decisions or Decisions(), summary)
    with summary.step("rules"):
        create_rule_edges(engine, applied)
        [(pairs,)] = engine.rows("SELECT count(*) FROM (SELECT DISTINCT id_l, id_r FROM rule_edge)")
        summary.counts["rule_pairs"] = pairs
    linker: Linker | None = None
    if "model" in applied.methods:
        used, linker = _score(engine, applied, summary, model)
    else:
        # Lookups score with the model, also if the run does not.
        used = _initial_model(applied, summary, model)
        engine.create("model_edge", NO_MODEL_EDGES)
    summary.model_version = used.version
    with summary.step("cluster"):
        create_clusters(engine, applied, summary, linker)
        create_entities(engine, previous, first_id)
    with summary.step("write"):
        outputs.write_tables(engine, applied, output)
        [(summary.counts["entities"],)] = engine.rows("SELECT count(DISTINCT entity_id) FROM entity")
        outputs.write_model(output, used, settings)
    outputs.write_summary(output, summary)
    return summary


def _prepare(engine: Engine, source: str, settings: Settings, decisions: Decisions, summary: Summary) -> Settings:
    """Makes the table `records`. Returns the settings without the constraints that do not apply to these records."""
    if source:
        engine.read(source)
    engine.normalise(conventions_of(settings.model_dump()))
    [(records, ids)] = engine.rows("SELECT count(*), count(DISTINCT id) FROM records")
    if records != ids:
        raise BadInput(f"{source}: expected each id once; {records} records have {ids} ids")
    summary.counts["records"] = records
    decisions.create_tables(engine)
    preparation.remove_customer_duplicates(engine, settings, summary)
    preparation.remove_common_values(engine, settings)
    preparation.add_representatives(engine, settings, summary)
    preparation.add_keys(engine, settings)
    scoring.create_term_frequencies(engine, settings)
    return preparation.waive_household_constraints(engine, settings, summary)


def _initial_model(settings: Settings, summary: Summary, given: Model | None) -> Model:
    """The model before training, with a prior estimated from the match rules."""
    prior = training.estimate_prior(settings, summary.compared, summary.counts["rule_pairs"])
    model = given or Model.default() or Model(prior=prior, comparisons={}, records=0)
    return model.model_copy(update={"prior": prior})


def _score(engine: Engine, settings: Settings, summary: Summary, given: Model | None) -> tuple[Model, Linker]:
    """Makes `model_edge`. Returns the model that was used, and a linker that scores more pairs with it."""
    records = summary.counts["records"]
    default = Model.default()
    with summary.step("train"):
        model = _initial_model(settings, summary, given)
        summary.trained = given is None and (records >= settings.training.from_records or default is None)
        if summary.trained:
            model = training.train(engine, settings, model, records).shrunk_towards(default, settings)
        linker = scoring.create_linker(engine, settings, model, records)
    with summary.step("score"):
        scoring.score(linker, engine, settings, "model_edge")
        prior = training.settle_prior(engine, "model_edge", model.prior, summary.compared)
        model = model.model_copy(update={"prior": prior})
        # Pairs that are scored later get the same prior.
        linker = scoring.create_linker(engine, settings, model, records)
        [(summary.counts["scored_pairs"],)] = engine.rows("SELECT count(*) FROM model_edge")
    return model, linker
