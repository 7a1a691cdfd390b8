"""The words that normalising knows: titles, short forms of given names, countries, legal forms. See vocabulary.json."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Vocabulary:
    """The content of vocabulary.json. All words are in the form that `normalise.fold` returns."""

    titles: frozenset[str]
    """Left out wherever they stand in a name."""
    leading_titles: frozenset[str]
    """Left out at the beginning of a name: all titles, and those that are family names too."""
    suffixes: frozenset[str]
    """Generations, degrees and honours after a name; left out."""
    particles: frozenset[str]
    """Words that a family name begins with: the `van` of `van den berg`."""
    given_names_with_particles: frozenset[str]
    """Second parts of Spanish given names, whose particles belong to the given name: `Maria del Pilar`."""
    nicknames: Sequence[Mapping[str, Sequence[str]]]
    """Classes of given names that one person may use: each full name, with its everyday English short forms and other
    spellings. The first full name stands for its class. Full names share a class if a short form is common for both:
    patrick and patricia are different people, and pat may be either. Others are in different classes, however similar
    they are (michael, michelle). A name in several classes belongs to the first of them."""
    countries: Mapping[str, str]
    """Names under which CRMs export a country, with the country's two letters of ISO 3166."""
    address_words: Mapping[str, str]
    """Words of an address, with their short form in USPS Publication 28, and a few of other countries."""
    legal_forms: frozenset[str]
    """Words at the end of a company's name that do not tell companies apart."""


@cache
def vocabulary() -> Vocabulary:
    """The content of vocabulary.json, read when the first value is normalised and not at import."""
    # Imported here: alone they take longer to import than everything that normalising needs.
    import json
    from importlib.resources import files

    content = json.loads((files("dedup.matching") / "vocabulary.json").read_text("utf-8"))
    titles = frozenset(content["titles"])
    return Vocabulary(
        titles=titles,
        leading_titles=titles.union(content["leading_titles"]),
        suffixes=frozenset(content["suffixes"]),
        particles=frozenset(content["particles"]),
        given_names_with_particles=frozenset(content["given_names_with_particles"]),
        nicknames=content["nicknames"],
        countries=content["countries"],
        address_words=content["address_words"],
        legal_forms=frozenset(content["legal_forms"]),
    )
