"""Medians, ranges, ratios, and what a file of raw lines holds. Pure: nothing is measured or written here."""

import json
import statistics

# What a row carries besides its figures.
LABELS = ("part", "round", "step", "load", "side", "error")


def spread(values):
    """Median, least and greatest."""
    return statistics.median(values), min(values), max(values)


def ratio(one, other):
    """Of the medians; None where there is nothing to divide by."""
    below = statistics.median(other)
    return statistics.median(one) / below if below else None


def digits(value):
    """A number as a person reads it: three digits, thousands with commas."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size >= 0.001 or not size else f"{value:.1g}"


def told(values):
    """`median (least-greatest)`, and the value alone if there is but one."""
    median, least, most = spread(values)
    return digits(median) if len(values) == 1 else f"{digits(median)} ({digits(least)}-{digits(most)})"


def parse(text):
    """The rows of raw lines. The last line may be cut short: a run can end at any moment."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def header(rows):
    """What is said once of a run: the machine, rounds, scale and versions."""
    return next((row["header"] for row in rows if "header" in row), {})


def done(rows):
    """What is measured: (part, round, step, side) and how many seconds it took."""
    return {(r["part"], r["round"], r["step"], r["side"]): r["took_s"] for r in rows if "took_s" in r}


def figures(rows):
    """{(part, load): {figure: {side: [values]}}}, in the order in which they were measured."""
    found = {}
    for row in rows:
        if "load" not in row:
            continue
        into = found.setdefault((row.get("part", ""), row["load"]), {})
        for figure, value in row.items():
            if figure not in LABELS and isinstance(value, (int, float)):
                into.setdefault(figure, {}).setdefault(row["side"], []).append(value)
    return found


def failures(rows):
    """{(part, step, side): why} of what went wrong and was not measured later."""
    measured = {(part, step, side) for part, _, step, side in done(rows)}
    wrong = {(r.get("part", ""), r["step"], r["side"]): r["error"] for r in rows if "error" in r}
    return {key: why for key, why in wrong.items() if key not in measured}


def seconds_left(steps, took):
    """How long steps (part, round, step, side) take, judged by what is measured (as `done` tells it); None while nothing is."""
    if not took:
        return None
    alike, sides = {}, {}
    for (part, _, step, side), seconds in took.items():
        alike.setdefault((part, step), []).append(seconds)
        sides.setdefault((part, step, side), []).append(seconds)
    mean = sum(took.values()) / len(took)
    return sum(
        statistics.mean(sides.get((part, step, side)) or alike.get((part, step)) or [mean])
        for part, _, step, side in steps)


def duration(seconds):
    """As a person says it."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
