"""What is kept of a run and shown of it: JSON, Markdown, a plot."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.goals import GOAL_SIZE, GOALS, Sizes
from benchmarks.measure import Figure, Figures, Key
from benchmarks.reads import RECORDS_PAGE

MARGIN = 0.4
"""How much worse a ratio may be than the kept one before it is a regression: two runs on a busy machine of two cores
differ by up to a third."""


def size_name(size: int) -> str:
    """10000 → 10k, 1000000 → 1M."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def ratios(figures: Figures) -> dict[str, float]:
    """For each operation that both stacks have done: how many times as long (or, for many clients, how many records
    fewer in a second) the reference took."""
    found = {}
    for key, figure in figures.items():
        other = figures.get(key._replace(stack="reference"))
        if key.stack == "ours" and other:
            throughput = figure.rate and other.rate and figure.rate / other.rate
            found[" · ".join(filter(None, key[:3]))] = throughput or other.median_ms / figure.median_ms
    return found


def goal_ratios(sizes: Sizes) -> dict[str, float]:
    """The goals' ratios, as far as this run has them."""
    return {goal.name: ratio for goal in GOALS if (ratio := goal.measured(sizes)) is not None}


def goals_table(sizes: Sizes) -> str:
    """The goals, and whether they are met, as a Markdown table. They are goals for GOAL_SIZE records and more."""
    measured = goal_ratios(sizes)
    counts = max(sizes) >= GOAL_SIZE
    rows = []
    for goal in GOALS:
        ratio = measured.get(goal.name)
        verdict = "not measured"
        if ratio is not None:
            verdict = "met" if goal.met_by(ratio) else "**missed**" if counts else f"asked at {size_name(GOAL_SIZE)}"
        unit = f" {goal.unit}"
        rows.append(
            [goal.name, f"{goal.bound} {goal.value:g}{unit}", "" if ratio is None else _short(ratio) + unit, verdict]
        )
    return _table(["goal", "asked", "measured", ""], rows)


def figures_table(figures: Figures) -> str:
    """All figures as a Markdown table: milliseconds, megabytes, and records per second."""
    by_ratio = ratios(figures)
    rows = []
    for key in dict.fromkeys(key._replace(stack="ours") for key in figures):
        both = [figures.get(key._replace(stack="reference")), figures.get(key)]
        ratio = by_ratio.get(" · ".join(filter(None, key[:3])))
        rows.append(
            [*key[:3], *(cell for figure in both for cell in _cells(figure)), f"{_short(ratio)} ×" if ratio else ""]
        )
    columns = ["median", "p95", "n", "MB", "rec/s"]
    return _table(["operation", "ids", "at", *(f"ref {c}" for c in columns), *columns, "ratio"], rows)


def machine() -> dict[str, Any]:
    """Where it ran, and how many processes wanted a core in its last minute."""
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def document(sizes: Sizes) -> dict[str, Any]:
    """The run as it is kept: its largest size, the machine, all ratios and figures."""
    largest = max(sizes)
    return {
        "records": largest,
        "machine": machine(),
        "goals": goal_ratios(sizes),
        "ratios": ratios(sizes[largest]),
        "figures": {
            size: [key._asdict() | asdict(figure) for key, figure in figures.items()] for size, figures in sizes.items()
        },
    }


def keep(sizes: Sizes, folder: Path) -> None:
    """Writes the run, which bears the name of its largest size, as JSON, as Markdown and as a plot."""
    folder.mkdir(exist_ok=True)
    path = folder / size_name(max(sizes))
    path.with_suffix(".json").write_text(json.dumps(document(sizes), indent=1, ensure_ascii=False) + "\n")
    path.with_suffix(".md").write_text(as_text(sizes))
    plot(sizes, path.with_suffix(".svg"))


def as_text(sizes: Sizes) -> str:
    """The run as Markdown that reads well on a terminal too."""
    largest = max(sizes)
    at = machine()
    return (
        f"# {largest:,} records\n\n"
        f"{at['cores']} cores, {at['memory_gb']} GB, {at['system']}, Python {at['python']}, "
        f"load {at['load']} at the end. "
        "Milliseconds; MB of the serving processes at their peak; records written per second.\n\n"
        f"{goals_table(sizes)}\n{figures_table(sizes[largest])}"
    )


def regressions(sizes: Sizes, folder: Path) -> list[str]:
    """A sentence for each ratio that is worse than the kept one by more than MARGIN."""
    size = max(sizes)
    kept = json.loads((folder / f"{size_name(size)}.json").read_text())
    found = _fallen(kept["ratios"], ratios(sizes[size]))
    now = goal_ratios(sizes)
    for goal in GOALS:
        before, after = kept["goals"].get(goal.name), now.get(goal.name)
        if before is None or after is None:
            continue
        if goal.bound == "≥":
            found += _fallen({goal.name: before}, {goal.name: after})
        elif not goal.met_by(after) and after > before / (1 - MARGIN):
            found.append(f"{goal.name}: {_short(before)} became {_short(after)} {goal.unit}")
    return found


def plot(sizes: Sizes, path: Path) -> None:
    """Draws what operations cost against the number of records, both axes logarithmic, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "dedup"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    lines = (
        (Key("analyze", "dense", "http", "reference"), "analyze: ORM and sets", "C3"),
        (Key("bulk upload of 10,000", "dense", "http", "reference"), "bulk upload of 10,000: add_all", "C1"),
        (Key("count(DISTINCT)", "dense", "handler", "reference"), "count(DISTINCT) alone", "C7"),
        (Key("all unique ids", "dense", "http", "ours"), "all ids in pages: ours", "C4"),
        (Key("bulk upload of 10,000", "dense", "http", "ours"), "bulk upload of 10,000: ours", "C2"),
        (Key(f"{RECORDS_PAGE}: last", "dense", "http", "ours"), "last page of records: ours", "C9"),
        (Key("analyze", "random", "http", "ours"), "analyze: ours", "C0"),
    )
    for key, label, colour in lines:
        points = [(size, figures[key].median_ms) for size, figures in sizes.items() if key in figures]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=label, color=colour)
    axes.set(xscale="log", yscale="log", xlabel="records", ylabel="milliseconds, median")
    axes.set_xticks(list(sizes), [size_name(size) for size in sizes])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _fallen(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    return [
        f"{name}: {_short(before[name])} × became {_short(after[name])} ×"
        for name in before
        if name in after and after[name] < before[name] * (1 - MARGIN)
    ]


def _cells(figure: Figure | None) -> list[str]:
    if not figure:
        return [""] * 5
    memory, rate = figure.peak_mb, figure.rate
    return [
        _short(figure.median_ms),
        _short(figure.p95_ms),
        str(figure.n),
        f"{memory:.0f}" if memory else "",
        f"{rate:,.0f}" if rate else "",
    ]


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    numeric = [column >= 3 or (len(head) == 4 and column in (1, 2)) for column in range(len(head))]

    def text(line: list[str]) -> str:
        cells = (c.rjust(w) if right else c.ljust(w) for c, w, right in zip(line, widths, numeric, strict=True))
        return f"| {' | '.join(cells)} |\n"

    rule = [("-" * (w - 1) + ":") if right else "-" * w for w, right in zip(widths, numeric, strict=True)]
    return text(head) + text(rule) + "".join(map(text, rows))
