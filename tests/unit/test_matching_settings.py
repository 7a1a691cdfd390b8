import json
from typing import Any

import pytest
from dedup.matching.settings import DEFAULT, Settings
from pydantic import ValidationError

from jobs.matching.model import LevelWeights, Model


def default() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DEFAULT.read_text())
    return content


def test_default_settings_come_back() -> None:
    settings = Settings.load()

    assert Settings.model_validate_json(settings.model_dump_json()) == settings


def test_default_model_is_made_for_the_default_settings() -> None:
    model = Model.load()

    for comparison in Settings.load().comparisons:
        weights = model.weights(comparison)
        assert weights is not None, comparison.name
        assert all(level.m and level.u for level in weights), comparison.name
        assert sum(level.m or 0 for level in weights) == pytest.approx(1, abs=0.01), comparison.name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rules": [{"name": "x", "equal": ["shoe_size"]}]}, "shoe_size"),
        ({"rules": [{"name": "x", "equal": ["email:3"]}]}, "email:3"),
        ({"blocking": [{"equal": ["email:two"]}]}, "first N letters"),
        ({"blocking": [{"equal": ["email:²"]}]}, "first N letters"),
        ({"comparisons": [{"name": "x", "columns": ["email"], "levels": [{"label": "same"}]}]}, "expected equal"),
        ({"comparisons": [{"name": "x", "columns": ["customer_id"], "levels": []}]}, "customer_id"),
        ({"survivorship": {"fields": {"shoe_size": ["most_recent"]}}}, "shoe_size"),
        ({"survivorship": {"fields": {"attributes.": ["most_recent"]}}}, "attributes.NAME"),
        ({"survivorship": {"fields": {"attributes.\0": ["most_recent"]}}}, "without NUL"),
        ({"survivorship": {"fields": {"city": ["most_recent"]}}}, "from the same record as 'address'"),
        ({"survivorship": {"trusted": ["hubspot\0"]}}, "without NUL"),
        ({"normalising": {"providers": {}, "placeholder_dates": ["\0"]}}, "without NUL"),
        ({"thresholds": {"keep": float("nan"), "review": -1, "match": 1, "confident": 2}}, "finite"),
        ({"rules": [{"name": "x", "equal": ["email"]}, {"name": "x", "equal": ["phone"]}]}, "is repeated"),
        ({"blocking": []}, "blocking"),
        ({"methods": ["guess"]}, "methods"),
        ({"surprise": 1}, "surprise"),
        ({"thresholds": {"keep": 0, "review": -1, "match": 1, "confident": 2}}, "keep <= review"),
    ],
)
def test_settings_that_mean_nothing_are_refused_with_the_reason(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.model_validate(default() | change)


def test_veto_of_columns_that_nothing_compares_is_refused() -> None:
    changed = default()
    changed["constraints"]["vetoes"] = [{"name": "x", "differ": ["given"], "other": ["phone"], "unless": {}}]
    with pytest.raises(ValidationError, match="no level of given uses phone"):
        Settings.model_validate(changed)


def test_veto_of_an_unknown_level_is_refused() -> None:
    changed = default()
    changed["constraints"]["vetoes"] = [{"name": "x", "differ": ["given"], "unless": {"email": ["nearly"]}}]

    with pytest.raises(ValidationError, match="nearly"):
        Settings.model_validate(changed)


def test_attributes_may_have_survivorship_rules() -> None:
    fields = {"attributes": ["most_recent"], "attributes.Lifecycle Stage": ["most_trusted"]}

    assert [*Settings.over({"survivorship": {"fields": fields}}).survivorship.fields] == [*fields]


def test_one_provider_needs_one_rule() -> None:
    changed = default()
    changed["normalising"]["providers"]["gmail.com"]["dots"] = True

    with pytest.raises(ValidationError, match="the same provider"):
        Settings.model_validate(changed)


def test_model_comes_back_and_its_version_is_its_content() -> None:
    model = Model.load()

    assert Model.model_validate({k: v for k, v in json.loads(model.text()).items() if k != "version"}) == model
    assert json.loads(model.text())["version"] == model.version != model.model_copy(update={"prior": 0.5}).version


def test_level_that_few_records_happened_not_to_have_is_not_impossible() -> None:
    settings, given = Settings.load(), Model.load()
    comparison = settings.comparisons[0]
    seen = tuple(
        LevelWeights(label=level.label, m=1.0 if n == 0 else 0.0, u=level.u)
        for n, level in enumerate(given.comparisons[comparison.name])
    )
    learnt = Model(prior=0.001, records=200, comparisons={comparison.name: seen})

    shrunk = learnt.shrunk_towards(given, settings).comparisons[comparison.name]

    assert all(level.m and level.m > 0 for level in shrunk)
    assert sum(level.m or 0 for level in shrunk) == pytest.approx(1, abs=1e-6)
    assert shrunk[0].m == pytest.approx(max(level.m or 0 for level in shrunk))
