#!/usr/bin/env python3
"""`make bench`: runs all parts of the side-by-side benchmark and writes the tables and charts of the page.

Usage: bench.py --jangbu BINARY [--rounds 5] [--scale 0.4] [--parts run,cluster,...] [--loads PATTERN] [--sides ...]
                [--raw FILE] [--page FILE] [--data DIR]

Everything that is measured is a line of JSON in --raw (default: target/bench/BINARY'S HASH-ROUNDSxSCALE.jsonl). A run that was
broken off goes on where it was when it is started again with the same binary, rounds and scale. With three rounds or more the
page is docs/benchmarks.md; the page of a shorter run is written to target/bench, as it says too little. See README.md.
"""

import argparse
import datetime
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import page
from harness import machine
from sides import HERE, NATS_VERSION, shell
from stats import duration, parse

ROOT = os.path.normpath(os.path.join(HERE, "../.."))
PAGE = os.path.join(ROOT, "docs/benchmarks.md")
# In this order; those with sides of their own are given none.
PARTS = {"run": True, "compaction": True, "groups": True, "cluster": True, "clients": False}


def options_of():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--jangbu", required=True, help="the jangbu binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=0.4, help="multiplies the number of records; below 0.4 the times too")
    parser.add_argument("--parts", default=",".join(PARTS), help="(default: %(default)s)")
    parser.add_argument("--loads", default=".", help="regular expression over the loads' names")
    parser.add_argument("--sides", help="default: all")
    parser.add_argument("--raw", help="the raw lines")
    parser.add_argument("--page", help="the page that is filled; its charts lie in charts/ beside it")
    parser.add_argument("--data", help="where the brokers keep their data (default: a temporary folder)")
    return parser.parse_args()


def sha(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()[:12]


def filesystem(directory):
    out = subprocess.run(["df", "--output=fstype", directory], check=True, stdout=subprocess.PIPE, text=True)
    return out.stdout.split()[-1]


def head(options):
    """What is said once of a run."""
    version = subprocess.run([options.jangbu, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1]
    java = shell("need_java >&2; java -version 2>&1 | head -1").split('"')[1]
    with tempfile.TemporaryDirectory(dir=options.data) as work:
        about = {**machine(work), "filesystem": filesystem(work)}
    return {"header": {
        **about, "date": datetime.date.today().isoformat(), "rounds": options.rounds, "scale": options.scale,
        "versions": {"jangbu": f"{version} ({sha(options.jangbu)})", "Apache Kafka": f"4.3.0 on Java {java}", "NATS": NATS_VERSION}}}


def run_part(name, takes_sides, options):
    """Whether it went well. A part that is not there, or fails, does not stop the others."""
    script = os.path.join(HERE, f"{name}.py")
    if not os.path.exists(script):
        print(f"{name}: there is no {os.path.basename(script)}")
        return False
    command = [sys.executable, script, "--jangbu", options.jangbu, "--rounds", str(options.rounds), "--scale", str(options.scale),
               "--loads", options.loads, "--out", options.raw]
    command += ["--sides", options.sides] if takes_sides and options.sides else []
    command += ["--data", options.data] if options.data else []
    return subprocess.run(command, check=False).returncode == 0


def is_finished(name, raw):
    with open(raw) as f:
        return any(row.get("finished") == name for row in parse(f.read()))


def append(raw, row):
    with open(raw, "a") as f:
        f.write(json.dumps(row) + "\n")


def measure(options):
    """Runs the parts; returns those that failed."""
    wrong, parts = [], options.parts.split(",")
    for at, name in enumerate(parts):
        print(f"=== part {at + 1} of {len(parts)}: {name}", flush=True)
        if is_finished(name, options.raw):
            print(f"{name}: measured before, see {options.raw}")
            continue
        since = time.monotonic()
        if run_part(name, PARTS[name], options):
            # Parts with steps of their own know what is left; after other loads there may be more to do.
            if not PARTS[name]:
                append(options.raw, {"finished": name})
            print(f"{name}: {duration(time.monotonic() - since)}", flush=True)
        else:
            wrong.append(name)
    return wrong


def main():
    options = options_of()
    unknown = [name for name in options.parts.split(",") if name not in PARTS]
    if unknown:
        sys.exit(f"there is no part {unknown[0]}: parts are {', '.join(PARTS)}")
    options.jangbu = os.path.abspath(options.jangbu)
    folder = os.path.join(ROOT, "target/bench")
    options.raw = os.path.abspath(
        options.raw or os.path.join(folder, f"{sha(options.jangbu)}-{options.rounds}x{options.scale:g}.jsonl"))
    os.makedirs(os.path.dirname(options.raw), exist_ok=True)
    if not os.path.exists(options.raw):
        append(options.raw, head(options))
    print(f"raw lines: {options.raw}; broken off, it goes on with the same command", flush=True)
    wrong = measure(options)
    out = options.page or (PAGE if options.rounds >= 3 else os.path.join(folder, "benchmarks.md"))
    if not os.path.exists(out):
        os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
        shutil.copy(PAGE, out)
    charts = page.write(options.raw, out, out)
    print(f"{out}: tables, and {len(charts)} charts beside it")
    if wrong:
        sys.exit(f"not measured: {', '.join(wrong)}; see above")


if __name__ == "__main__":
    main()
