"""How well records were put together, against the truth."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """Precision and recall, pairwise and B-cubed (Bagga and Baldwin, 1998)."""

    precision: float
    recall: float
    b_precision: float
    b_recall: float

    @property
    def f1(self) -> float:
        """Of pairs."""
        return _f1(self.precision, self.recall)

    @property
    def b_f1(self) -> float:
        """B-cubed's: every record counts the same, so that one large cluster can't hide the others."""
        return _f1(self.b_precision, self.b_recall)


def _f1(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def quality(truth: Sequence[int], found: Sequence[int]) -> Quality:
    """Of `found`, each record's cluster, against `truth`, each record's person, in the same order."""
    both, true, ours = Counter(zip(truth, found, strict=True)), Counter(truth), Counter(found)

    def pairs(sizes: Counter[object]) -> int:
        return sum(n * (n - 1) // 2 for n in sizes.values())

    together, expected, claimed = pairs(Counter(both)), pairs(Counter(true)), pairs(Counter(ours))
    return Quality(
        precision=together / claimed if claimed else 1.0,
        recall=together / expected if expected else 1.0,
        b_precision=sum(n * n / ours[cluster] for (_, cluster), n in both.items()) / len(truth),
        b_recall=sum(n * n / true[person] for (person, _), n in both.items()) / len(truth),
    )
