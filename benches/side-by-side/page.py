#!/usr/bin/env python3
"""Writes what a run measured into a page, between its markers, and the charts into charts/ beside it.

Usage: page.py RAW.jsonl PAGE.md

A marker is a pair of lines `<!-- bench:NAME -->` and `<!-- end of NAME -->`; everything outside of them is written by hand and
stays. The raw lines are copied to charts/raw.jsonl, so that the page can be made again from the repository alone.
"""

import os
import re
import shutil
import sys

from stats import header, parse
from tables import content

MARKED = re.compile(r"(<!-- bench:([\w-]+) -->\n).*?(^<!-- end of \2 -->$)", re.S | re.M)


def fill(page, texts):
    """The page with `texts` between its markers. What has no marker is an error: it would get lost."""
    missing = [name for name in texts if f"<!-- bench:{name} -->" not in page]
    unknown = [name for _, name, _ in MARKED.findall(page) if name not in texts]
    if missing or unknown:
        raise ValueError(f"the page has no markers for {missing or 'nothing'}, and markers nothing is made for: {unknown or 'none'}")
    return MARKED.sub(lambda found: f"{found[1]}{texts[found[2]]}\n{found[3]}", page)


def write(raw, page, out):
    """Fills the page `page` from the file `raw`, and writes it to `out`."""
    with open(raw) as f:
        rows = parse(f.read())
    with open(page) as f:
        text = f.read()
    texts, charts = content(rows, header(rows))
    filled = fill(text, texts)
    folder = os.path.join(os.path.dirname(out), "charts")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(folder):
        if name.endswith(".svg"):
            os.remove(os.path.join(folder, name))  # of a load that is no more
    for name, svg in charts.items():
        with open(os.path.join(folder, name), "w") as f:
            f.write(svg)
    kept = os.path.join(folder, "raw.jsonl")
    if os.path.realpath(kept) != os.path.realpath(raw):
        shutil.copy(raw, kept)
    with open(out, "w") as f:
        f.write(filled)
    return sorted(charts)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: page.py RAW.jsonl PAGE.md")
    print(f"{sys.argv[2]} and its charts: {', '.join(write(sys.argv[1], sys.argv[2], sys.argv[2]))}")
