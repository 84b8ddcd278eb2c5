"""Which rows and charts the page has, and how they are told in Markdown. Pure: figures in, text out.

A section takes loads of one part by their labels and shows some of their figures. What a load measured and no section shows
is in the raw lines all the same. A ratio is jangbu's median over another side's; bold says that jangbu is behind there.
"""

import re
from typing import NamedTuple

from charts import bars
from stats import digits, duration, failures, figures, ratio, told

US = ("jangbu", "jangbu-client")  # whose ratios are told


class Figure(NamedTuple):
    title: str
    more_is_better: bool = False


FIGURES = {
    "mb_per_s": Figure("MB/s", True),
    "cold_mb_per_s": Figure("reading cold data, MB/s", True),
    "records_per_s": Figure("records/s", True),
    "commits_per_s": Figure("commits/s", True),
    "gets_per_s": Figure("gets/s", True),
    "broker_cpu_s_per_gb": Figure("broker CPU-s per GB"),
    "client_cpu_s_per_gb": Figure("client CPU-s per GB"),
    "broker_cpu_share": Figure("broker, cores"),
    "cpu_share_of_a_node": Figure("cores of a node"),
    "idle_cpu_share_of_a_node": Figure("at rest, cores of a node"),
    "p50_ms": Figure("p50, ms"),
    "p99_ms": Figure("p99, ms"),
    "p999_ms": Figure("p99.9, ms"),
    "metadata_s": Figure("until metadata is complete, s"),
    "readable_s": Figure("until every partition was read, s"),
    "longest_gap_s": Figure("longest gap, s"),
    "joined_s": Figure("until all have joined, s"),
    "moved_s": Figure("until what one left has owners, s"),
    "clean_after_s": Figure("clean after, s"),
    "cpu_s": Figure("CPU-s"),
    "create_s": Figure("made within, s"),
    "write_s": Figure("written within, s"),
    "write_cpu_s": Figure("CPU-s of writing"),
    "peak_rss_mb": Figure("most resident, MB"),
    "rss_more_mb": Figure("resident for it, MB"),
    "rss_created_mb": Figure("resident once made, MB"),
    "rss_written_mb": Figure("resident once written, MB"),
    "rss_mb": Figure("resident, MB"),
}
THROUGHPUT = ("mb_per_s", "broker_cpu_s_per_gb")
LATENCY = ("p50_ms", "p99_ms", "p999_ms", "broker_cpu_share")


class Chart(NamedTuple):
    name: str  # of its file
    title: str
    figure: str
    loads: str = ""  # a regular expression over their labels; its first group is what a group of bars is called
    logarithmic: bool = False


class Section(NamedTuple):
    name: str  # of its markers
    part: str
    loads: str
    shown: tuple = ()  # figures; all if none is named
    charts: tuple = ()
    sides: tuple = ()  # those that are shown; all if none is named
    with_side: str = ""  # only loads that this side took part in


KAFKAS = ("kafka", "kafka-fsync", "jangbu")
SECTIONS = (
    Section("produce", "run", r"^produce", THROUGHPUT, (
        Chart("produce", "Producing 1 KiB records to one node", "mb_per_s", r"^produce 1 KiB, ([\d]+ part\.)$"),
        Chart("produce-100b", "Producing 100 B records to one node", "mb_per_s", r"^produce 100 B, ([\d]+ part\.)$"),
        Chart("produce-cpu", "What the broker spends on producing 1 KiB records", "broker_cpu_s_per_gb",
              r"^produce 1 KiB, ([\d]+ part\.)$", True),
    ), KAFKAS),
    Section("consume", "run", r"^consume", THROUGHPUT, (
        Chart("consume", "Consuming 1 KiB records from one node", "mb_per_s", r"^consume 1 KiB, ([\d]+ part\.)$"),
    ), KAFKAS),
    Section("memory", "run", r"^produce 1 KiB, \d+ part\.$", ("rss_mb",), (
        Chart("memory", "Resident while producing 1 KiB records", "rss_mb", r"^produce 1 KiB, ([\d]+ part\.)$"),), KAFKAS),
    Section("latency", "run", r"^latency", LATENCY, (
        Chart("latency", "p99 until a record is acknowledged, 2,000 records/s", "p99_ms", r"^latency 2000/s, ([\d]+ part\.)$", True),
    ), KAFKAS),
    Section("end-to-end", "run", r"^end to end", ("records_per_s", *LATENCY), (
        Chart("end-to-end", "p99 from when a record was due until it was read, at a share of each broker's own peak", "p99_ms",
              r"^end to end.*, (\d+ % of the peak)$", True),)),
    Section("catch-up", "run", r"while cold data", ("cold_mb_per_s", *LATENCY)),
    Section("tools", "run", r"^perf-test", THROUGHPUT, (
        Chart("tools", "Kafka's own perf-test tools", "mb_per_s", r"^perf-test (.*)$"),)),
    Section("restart", "run", r"^(restart|idle)", ("metadata_s", "readable_s", "broker_cpu_share", "rss_mb"), (
        Chart("restart", "kill -9 and start again, 1,000 partitions", "readable_s", r"^(restart.*)$"),)),
    Section("nats", "run", r"^(produce|consume|latency)", ("mb_per_s", "p50_ms", "p99_ms", "broker_cpu_s_per_gb"), (
        Chart("nats", "Producing, with NATS JetStream by its own client", "mb_per_s", r"^produce (.*)$", True),), (), "nats"),
    Section("clients", "clients", r"."),
    Section("compaction", "compaction", r".", ("mb_per_s", "gets_per_s", "p50_ms", "p99_ms", "clean_after_s", "cpu_s", "peak_rss_mb")),
    Section("groups", "groups", r".", ("commits_per_s", "p50_ms", "p99_ms", "joined_s", "moved_s", "broker_cpu_share", "rss_more_mb")),
    Section("cluster", "cluster", r".", (
        "mb_per_s", "broker_cpu_s_per_gb", "p50_ms", "p99_ms", "longest_gap_s", "cpu_share_of_a_node", "create_s", "write_s",
        "idle_cpu_share_of_a_node", "rss_mb", "rss_written_mb"), (
        Chart("cluster-produce", "Producing 1 KiB records to three nodes, three replicas", "mb_per_s", r"^produce 1 KiB, (.*)$"),
        Chart("cluster-gap", "Longest time without an acknowledgement when a leader goes away", "longest_gap_s", r"^leader gone by (\w+),", True),
    )),
)


def chosen(section, found):
    """[(load, {figure: {side: [values]}})] of a section."""
    rows = [(load, by_figure) for (part, load), by_figure in found.items() if part == section.part and re.search(section.loads, load)]
    if section.with_side:
        rows = [(load, f) for load, f in rows if any(section.with_side in by_side for by_side in f.values())]
    return rows


def sides_of(section, rows, known):
    """Those that have values, in the order of `known` (that of the run), us last."""
    there = {side for _, by_figure in rows for by_side in by_figure.values() for side in by_side}
    sides = [s for s in known if s in there and (not section.sides or s in section.sides)]
    return [s for s in sides if s not in US] + [s for s in sides if s in US]


def factor(figure, one, other):
    """A ratio as a cell; bold if jangbu is behind by more than rounding."""
    value = ratio(one, other)
    if value is None:
        return "-"
    behind = value < 0.995 if FIGURES[figure].more_is_better else value > 1.005
    return f"**{digits(value)}**" if behind else digits(value)


def table(rows, sides, shown):
    """Markdown of it, or nothing."""
    us = next((side for side in sides if side in US), None)
    others = [side for side in sides if us and side != us]
    lines = ["| Load | Figure | " + " | ".join(sides) + "".join(f" | : {s}" for s in others) + " |",
             "|---|---|" + "--:|" * (len(sides) + len(others))]
    for load, by_figure in rows:
        named = load
        for figure in [f for f in FIGURES if f in by_figure and (not shown or f in shown)]:
            by_side = by_figure[figure]
            if not any(side in by_side for side in sides):
                continue
            cells = [told(by_side[side]) if side in by_side else "" for side in sides]
            cells += [factor(figure, by_side[us], by_side[s]) if s in by_side and us in by_side else "" for s in others]
            lines.append(f"| {named} | {FIGURES[figure].title} | " + " | ".join(cells) + " |")
            named = ""
    return "\n".join(lines) if len(lines) > 2 else ""


def drawn(section, rows, sides):
    """{file name: SVG} of a section's charts."""
    charts = {}
    for chart in section.charts:
        groups = []
        for load, by_figure in rows:
            match = re.search(chart.loads, load)
            if match and chart.figure in by_figure:
                groups.append((match.group(1), by_figure[chart.figure]))
        svg = bars(chart.title, FIGURES[chart.figure].title, groups, sides, chart.logarithmic)
        if svg:
            charts[f"{chart.name}.svg"] = svg
    return charts


def failed(section, wrong):
    """A line for each step of a part that could not be measured."""
    return "".join(f"\n- {step} on {side} failed: {why.splitlines()[0][:160] if why else 'no reason given'}"
                   for (part, step, side), why in wrong.items() if part == section.part and section.name in (part, "produce"))


def about(head, rows):
    """What was run, where and when."""
    disk = "; ".join(f"{size} {median} ms (p99 {worst} ms)" for size, (median, worst) in head.get("fdatasync_ms", {}).items())
    loads = [row["load_avg"] for row in rows if "load_avg" in row]
    took = sum(row["took_s"] for row in rows if "took_s" in row)
    versions = ", ".join(f"{name} {version}" for name, version in head.get("versions", {}).items())
    return "\n".join([
        f"{head.get('cpus', '?')} CPUs ({head.get('model', '?')}), shared by all brokers and the client; Linux {head.get('kernel', '?')}, "
        f"{head.get('filesystem', '?')}. {versions}. {head.get('date', '')}: {head.get('rounds', '?')} rounds at a scale of "
        f"{head.get('scale', '?')}, {duration(took)} of measuring.",
        f"Median of write and fdatasync: {disk}. Load average while measuring: {told(loads) if loads else '?'}."])


def content(rows, head):
    """({marker: Markdown}, {file name: SVG}) of everything."""
    found, wrong = figures(rows), failures(rows)
    known = list(dict.fromkeys(row["side"] for row in rows if "side" in row))
    texts, charts = {"about": about(head, rows)}, {}
    for section in SECTIONS:
        chosen_rows = chosen(section, found)
        sides = sides_of(section, chosen_rows, known)
        pictures = drawn(section, chosen_rows, sides)
        charts |= pictures
        shown = table(chosen_rows, sides, section.shown)
        missing = failed(section, wrong)
        images = "\n".join(f"![{name.removesuffix('.svg')}](charts/{name})" for name in pictures)
        whole = "\n\n".join(filter(None, [images, shown, missing.strip()]))
        texts[section.name] = whole or "Not measured in this run."
    return texts, charts
