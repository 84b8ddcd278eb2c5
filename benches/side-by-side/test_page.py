"""What the generator of the page makes of raw lines. Nothing is measured: no broker, no clock.

    python3 -m unittest discover -s benches/side-by-side
"""

import json
import os
import tempfile
import unittest
import xml.dom.minidom

import charts
import page
import run
import stats
import tables


def row(load, side, part="run", **figures):
    return {"part": part, "round": 0, "step": load, "load": load, "side": side, **figures}


ROWS = [
    {"header": {"cpus": 2, "model": "M", "kernel": "6", "filesystem": "ext4", "rounds": 3, "scale": 0.4, "date": "2020-01-02",
                "versions": {"jangbu": "1", "NATS": "2"}, "fdatasync_ms": {"64 KiB": [0.2, 0.5]}}},
    *(row("produce 1 KiB, 1 part.", "kafka", mb_per_s=v, rss_mb=1000, load_avg=2) for v in (100, 300, 200)),
    *(row("produce 1 KiB, 1 part.", "jangbu", mb_per_s=v, rss_mb=250, load_avg=2) for v in (150, 110)),
    *(row("produce 1 KiB, 1 part.", "nats", mb_per_s=v, load_avg=2) for v in (50,)),
    {"part": "run", "round": 0, "step": "produce-1k-1", "side": "kafka", "took_s": 10.0},
    {"part": "run", "round": 0, "step": "produce-1k-1", "side": "jangbu", "took_s": 20.0},
    {"part": "run", "round": 0, "step": "idle-1000", "side": "kafka", "error": "it hung"},
]


class Stats(unittest.TestCase):
    def test_a_spread_is_median_least_and_greatest(self):
        self.assertEqual(stats.spread([3, 1, 2]), (2, 1, 3))
        self.assertEqual(stats.spread([1, 2]), (1.5, 1, 2))

    def test_a_ratio_is_that_of_the_medians_and_none_over_nothing(self):
        self.assertEqual(stats.ratio([2, 9, 4], [1, 2, 3]), 2)
        self.assertIsNone(stats.ratio([1], [0]))

    def test_numbers_have_three_digits_and_commas(self):
        told = [stats.digits(v) for v in (1234567, 366.4, 45.21, 0.2345, 0.00012, 0)]
        self.assertEqual(told, ["1,234,567", "366", "45.2", "0.234", "0.0001", "0"])

    def test_a_single_value_has_no_range(self):
        self.assertEqual([stats.told([5]), stats.told([5, 7, 6])], ["5", "6 (5-7)"])

    def test_a_line_that_was_cut_short_is_passed_over(self):
        text = "\n".join(json.dumps(r) for r in ROWS) + '\n{"part": "ru'
        self.assertEqual(stats.parse(text), ROWS)

    def test_what_is_done_is_known_with_its_time_and_what_failed_with_its_reason(self):
        self.assertEqual(stats.done(ROWS), {("run", 0, "produce-1k-1", "kafka"): 10.0, ("run", 0, "produce-1k-1", "jangbu"): 20.0})
        self.assertEqual(stats.failures(ROWS), {("run", "idle-1000", "kafka"): "it hung"})
        later = [*ROWS, {"part": "run", "round": 1, "step": "idle-1000", "side": "kafka", "took_s": 1}]
        self.assertEqual(stats.failures(later), {})

    def test_what_is_left_is_judged_by_the_same_step_then_by_all(self):
        took = stats.done(ROWS)
        same = ("run", 1, "produce-1k-1", "kafka")
        other_side, other_step = ("run", 0, "produce-1k-1", "nats"), ("run", 0, "restart", "kafka")
        self.assertEqual(stats.seconds_left([same, other_side, other_step], took), 10 + 15 + 15)
        self.assertIsNone(stats.seconds_left([same], {}))
        self.assertEqual([stats.duration(s) for s in (12, 600, 8000)], ["12 s", "10 min", "2 h 13 min"])


class Tables(unittest.TestCase):
    def setUp(self):
        self.texts, self.charts = tables.content(ROWS, stats.header(ROWS))

    def test_a_row_has_medians_ranges_and_ratios_and_bold_says_that_jangbu_is_behind(self):
        self.assertIn("| Load | Figure | kafka | jangbu | : kafka |", self.texts["produce"])
        self.assertIn("| produce 1 KiB, 1 part. | MB/s | 200 (100-300) | 130 (110-150) | **0.65** |", self.texts["produce"])
        self.assertIn("| resident, MB | 1,000 (1,000-1,000) | 250 (250-250) | 0.25 |", self.texts["memory"])

    def test_less_is_better_where_it_is_a_cost(self):
        self.assertEqual(tables.factor("p99_ms", [2], [1]), "**2**")
        self.assertEqual(tables.factor("mb_per_s", [2], [1]), "2")
        self.assertEqual(tables.factor("mb_per_s", [2], [0]), "-")

    def test_a_table_for_one_side_holds_only_the_loads_it_took_part_in(self):
        more = [*ROWS, row("produce 1 KiB, 10 part.", "jangbu", mb_per_s=1)]
        texts, _ = tables.content(more, {})
        self.assertNotIn("10 part.", texts["nats"])
        self.assertIn("| produce 1 KiB, 1 part. | MB/s | 200 (100-300) | 50 | 130 (110-150) | **0.65** | 2.6 |", texts["nats"])

    def test_what_was_not_measured_says_so_and_what_failed_is_shown(self):
        self.assertEqual(self.texts["cluster"], "Not measured in this run.")
        self.assertIn("- idle-1000 on kafka failed: it hung", self.texts["produce"])

    def test_the_run_is_described(self):
        self.assertIn("2 CPUs (M)", self.texts["about"])
        self.assertIn("64 KiB 0.2 ms (p99 0.5 ms)", self.texts["about"])
        self.assertIn("3 rounds at a scale of 0.4", self.texts["about"])

    def test_every_figure_and_chart_of_a_section_has_a_title(self):
        for section in tables.SECTIONS:
            shown = {*section.shown, *(chart.figure for chart in section.charts)}
            self.assertLessEqual(shown, set(tables.FIGURES), section.name)


class Charts(unittest.TestCase):
    def test_a_chart_is_xml_with_a_bar_and_a_number_for_each_side(self):
        svg = charts.bars("A <title>", "MB/s", [("1 & 2", {"kafka": [1, 2, 3], "new": [400]})], ["kafka", "new"])
        drawn = xml.dom.minidom.parseString(svg)
        fills = [r.getAttribute("fill") for r in drawn.getElementsByTagName("rect")]
        self.assertEqual(len(fills), 1 + 2 + 2)  # the ground, the names, the bars
        said = [t.firstChild.data for t in drawn.getElementsByTagName("text")]
        self.assertLessEqual({"A <title>", "1 & 2", "kafka", "new", "2", "400"}, set(said))

    def test_without_values_there_is_none(self):
        self.assertIsNone(charts.bars("t", "u", [], ["kafka"]))
        self.assertIsNone(charts.bars("t", "u", [("x", {"other": [1]})], ["kafka"]))

    def test_ticks_reach_the_greatest_value_and_are_few(self):
        for top in (0.003, 0.99, 1, 7.3, 8.9, 10, 366, 1_000_000):
            ticks = charts.nice_ticks(top)
            self.assertGreaterEqual(ticks[-1], top * 0.999, top)
            self.assertTrue(4 <= len(ticks) <= 10, (top, ticks))
        self.assertEqual(charts.log_ticks(0.3, 90), [0.1, 1.0, 10.0, 100.0])
        self.assertEqual(charts.log_ticks(10, 10), [10.0, 100.0])

    def test_a_greater_value_is_a_higher_bar_on_both_axes(self):
        for logarithmic in (False, True):
            up = charts.scale([1, 10, 100], logarithmic)
            self.assertLess(up(10), up(50))
            self.assertEqual(up(100), 1)


class Page(unittest.TestCase):
    PAGE = "by hand\n<!-- bench:a -->\nold\n<!-- end of a -->\nmore\n<!-- bench:b -->\n<!-- end of b -->\n"

    def test_only_what_is_between_markers_changes(self):
        filled = page.fill(self.PAGE, {"a": "new", "b": "x\ny"})
        self.assertEqual(filled, "by hand\n<!-- bench:a -->\nnew\n<!-- end of a -->\nmore\n<!-- bench:b -->\nx\ny\n<!-- end of b -->\n")
        self.assertEqual(page.fill(filled, {"a": "new", "b": "x\ny"}), filled)

    def test_backslashes_are_text(self):
        self.assertIn(r"\1 \g<0>", page.fill(self.PAGE, {"a": r"\1 \g<0>", "b": ""}))

    def test_a_missing_marker_and_a_marker_for_nothing_are_errors(self):
        with self.assertRaisesRegex(ValueError, "c"):
            page.fill(self.PAGE, {"a": "", "b": "", "c": ""})
        with self.assertRaisesRegex(ValueError, "b"):
            page.fill(self.PAGE, {"a": ""})

    def test_the_page_of_the_repository_has_a_place_for_everything(self):
        with tempfile.TemporaryDirectory() as folder:
            raw, out = os.path.join(folder, "raw.jsonl"), os.path.join(folder, "page.md")
            with open(raw, "w") as f:
                f.writelines(json.dumps(r) + "\n" for r in ROWS)
            names = page.write(raw, os.path.join(os.path.dirname(__file__), "../../docs/benchmarks.md"), out)
            self.assertIn("produce.svg", names)
            with open(out) as f:
                self.assertIn("![produce](charts/produce.svg)", f.read())
            # Made again of what lies beside it, it is the same.
            with open(out) as f:
                first = f.read()
            page.write(os.path.join(folder, "charts/raw.jsonl"), out, out)
            with open(out) as f:
                self.assertEqual(f.read(), first)


class Kafkas(unittest.TestCase):
    """What Kafka's tools print."""

    def test_the_rate_of_the_producer_is_in_its_last_line(self):
        said = ("10 records sent, 2.0 records/sec (0.1 MB/sec), 3.0 ms avg latency.\n"
                "500 records sent, 123.5 records/sec (0.12 MB/sec), 1 ms avg latency, 2 ms max, 1 ms 50th, 2 ms 95th, 3 ms 99th, 4 ms 99.9th.\n")
        self.assertEqual(run.produced_per_s(said), 123.5)
        self.assertRaises(ValueError, run.produced_per_s, "nothing")

    def test_the_rate_of_the_consumer_is_under_its_heading(self):
        said = ("a warning, by the way\nstart.time, end.time, data.consumed.in.MB, MB.sec, fetch.MB.sec\n"
                "2020-01-01 00:00:00:000, 2020-01-01 00:00:01:000, 1.0, 1.0, 2.0\n")
        self.assertEqual(run.consumed_mb_per_s(said), 2.0 * (1 << 20) / 1e6)
        self.assertRaises(ValueError, run.consumed_mb_per_s, "nothing")


if __name__ == "__main__":
    unittest.main()
