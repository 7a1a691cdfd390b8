import pytest
from dedup.settings import Settings
from pydantic import ValidationError


@pytest.mark.parametrize(
    "sources",
    [
        *("", "A", "a,a", "a b", "1a", "../x", "'; DROP TABLE record; --", "ѕalesforce"),
        *("only_in_x", "in_all_sources", "x_count"),
        ",".join(f"s{n}" for n in range(64)),
    ],
)
def test_source_names_that_could_be_mistaken_are_refused(sources: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"sources": sources})


def test_sources_are_separated_by_commas() -> None:
    assert Settings.model_validate({"sources": "crm, erp ,web_shop"}).sources == ("crm", "erp", "web_shop")


def test_sixty_three_sources_fit() -> None:
    assert len(Settings.model_validate({"sources": ",".join(f"s{n}" for n in range(63))}).sources) == 63


def test_password_is_not_shown() -> None:
    assert "secret" not in repr(Settings(db_password="secret"))
