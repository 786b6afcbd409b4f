"""Fuzz a parser: ``python -m tests.fuzz csv --minutes 10 --seed 1``.

libFuzzer mutates the seeds towards code that was not reached yet. An exception
that is no refusal, 10 seconds for one input, or 2 GiB of memory end the run;
the input is kept in the working folder. What was mended goes to
``tests/fuzz/found``. Of atheris, which brings libFuzzer, there are wheels for
Linux on x86-64 alone.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["app", "engine", "werkzeug", "numpy.lib", "zipfile"]):
    from tests.fuzz.targets import SEEDS, TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", choices=sorted(TARGETS))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.disable()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(SEEDS[asked.target]):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        limits = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"]
        time = [f"-seed={asked.seed}", f"-max_total_time={round(60 * asked.minutes)}"]
        options = [*limits, *time, "-print_final_stats=1", corpus]
        atheris.Setup([sys.argv[0], *options], TARGETS[asked.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
