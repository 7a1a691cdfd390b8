"""Matches records: match rules first, then the match model, then clusters under the constraints."""

from collections.abc import Callable

from dedup.matching.rules import conventions_of, without_waived
from dedup.matching.scoring import prior_weight
from dedup.matching.settings import Settings
from splink import Linker

from jobs import BadInput
from jobs.matching import outputs, preparation, scoring, training
from jobs.matching.clustering import create_clusters, create_entities, previous_entities
from jobs.matching.decisions import Decisions
from jobs.matching.edges import NO_MODEL_EDGES, create_rule_edges
from jobs.matching.engine import Engine
from jobs.matching.model import Model, Waived
from jobs.matching.summary import Summary

PRIOR_MARGIN = 2.0
"""Before the prior is settled, pairs are scored down to so much below `keep`, so that none is missing under a prior up
to four times as high."""


def match(
    engine: Engine,
    source: str,
    output: str,
    settings: Settings,
    *,
    decisions: Decisions | None = None,
    previous: str | None = None,
    model: Model | None = None,
    terms: str | None = None,
    first_id: int = 1,
    report: Callable[[str], None] = lambda step: None,
) -> Summary:
    """Matches the records of `source` and writes the files of jobs.matching.outputs to `output`.

    `source`: path of the records, or "" if the engine already has the table `raw`. `previous`: path of an earlier
    entities.parquet; an entity keeps its id if most of its records stay together. `model` and `terms`: a model version
    and the path of its term frequencies, used unchanged: the result depends on the records, the settings, the decisions
    and the version only. If None, a model is trained, or the default model is used if there are too few records.
    `first_id`: lowest id of new entities, which are also above those of `previous`. `report`: called with the name of
    each step before it begins. Raises BadInput."""
    summary = Summary(engine.name, settings, report=report)
    with summary.step("read"):
        _prepare(engine, source, settings, decisions or Decisions(), summary)
        summary.waived = _frozen(engine, settings, summary, model, terms)
    applied = Settings.model_validate(without_waived(settings.model_dump(), summary.waived))
    with summary.step("rules"):
        create_rule_edges(engine, applied)
        [(pairs,)] = engine.rows("SELECT count(*) FROM (SELECT DISTINCT id_l, id_r FROM rule_edge)")
        summary.counts["rule_pairs"] = pairs
    linker: Linker | None = None
    if "model" in applied.methods:
        used, linker = _score(engine, applied, summary, model)
    else:
        # Lookups score with the model, also if the run does not.
        used = model or _untrained(engine, applied, summary)
        engine.create("model_edge", NO_MODEL_EDGES)
    summary.model_version = used.version
    with summary.step("cluster"):
        create_clusters(engine, applied, summary, (lambda: linker) if linker else None)
        create_entities(engine, previous_entities(engine, previous), first_id)
    with summary.step("write"):
        outputs.write_tables(engine, applied, output)
        [(summary.counts["entities"],)] = engine.rows("SELECT count(DISTINCT entity_id) FROM entity")
        outputs.write_model(output, used, settings)
    outputs.write_summary(output, summary)
    return summary


def _prepare(engine: Engine, source: str, settings: Settings, decisions: Decisions, summary: Summary) -> None:
    """Makes the table `records`."""
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


def _frozen(
    engine: Engine, settings: Settings, summary: Summary, given: Model | None, terms: str | None
) -> tuple[Waived, ...]:
    """Makes the term frequencies: those of a given version, or else of the records. Returns the constraints that the
    version waives."""
    if given is None:
        summary.terms = scoring.create_term_frequencies(engine, settings)
        return preparation.waived_constraints(engine, settings, summary)
    if given.terms and not terms:
        raise BadInput(f"expected the term frequencies of model version {given.version}: terms.parquet beside its file")
    scoring.read_terms(engine, terms)
    scoring.apply_terms(engine, settings, "records", given.terms or "")
    return given.waived


def _untrained(engine: Engine, settings: Settings, summary: Summary) -> Model:
    """The model before training: the default one for these records, with a prior estimated from the match rules."""
    prior = training.estimate_prior(settings, summary.compared, summary.counts["rule_pairs"])
    model = Model.default() or Model(prior=prior, comparisons={}, records=0)
    return model.model_copy(
        update={
            "prior": prior,
            "records": summary.counts["records"],
            "waived": summary.waived,
            "terms": summary.terms,
        }
    )


def _score(engine: Engine, settings: Settings, summary: Summary, given: Model | None) -> tuple[Model, Linker]:
    """Makes `model_edge`. Returns the model that was used, and a linker that scores more pairs with it."""
    with summary.step("train"):
        model = given or _train(engine, settings, summary)
        linker = scoring.create_linker(engine, settings, model, model.records)
    with summary.step("score"):
        if given:
            scoring.score(linker, engine, settings, "model_edge")
        else:
            model, linker = _score_and_settle(engine, settings, summary, model, linker)
        [(summary.counts["scored_pairs"],)] = engine.rows("SELECT count(*) FROM model_edge")
    return model, linker


def _train(engine: Engine, settings: Settings, summary: Summary) -> Model:
    """A model for these records, whose prior is not settled yet: the default one if there are too few of them."""
    records, default = summary.counts["records"], Model.default()
    start = _untrained(engine, settings, summary)
    summary.trained = records >= settings.training.from_records or default is None
    if not summary.trained:
        return start
    trained = training.train(engine, settings, start, records).shrunk_towards(default, settings)
    return start.model_copy(update={"prior": trained.prior, "comparisons": trained.comparisons})


def _score_and_settle(
    engine: Engine, settings: Settings, summary: Summary, model: Model, linker: Linker
) -> tuple[Model, Linker]:
    """Makes `model_edge` with the prior that its pairs settle. Returns the model with this prior, and its linker."""
    keep = settings.thresholds.keep
    scoring.score(linker, engine, settings, "unsettled_edge", keep=keep - PRIOR_MARGIN)
    prior = training.settle_prior(engine, settings, "unsettled_edge", model.prior, summary.compared)
    settled = model.model_copy(update={"prior": prior})
    linker = scoring.create_linker(engine, settings, settled, settled.records)
    if prior_weight(prior) - prior_weight(model.prior) <= PRIOR_MARGIN:
        scoring.weigh(engine, "unsettled_edge", "model_edge", prior, keep)
    else:
        scoring.score(linker, engine, settings, "model_edge")
    return settled, linker
