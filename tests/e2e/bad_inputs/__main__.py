"""Write docs/bad-inputs.md: send every bad input to the service, and measure what comes of it."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.e2e.bad_inputs.test_bad_inputs import PEAK_BYTES, ROWS, Row, name
from tests.e2e.conftest import GUARDED
from tests.e2e.services import ROOT

PAGE = ROOT / "docs" / "bad-inputs.md"

HEAD = """# Bad inputs

What the service answers to what it should never be sent, row by row over HTTP, on SQLite and on
PostgreSQL with Redis and S3. Every refusal is an RFC 9457 problem with the place, nothing is
stored, and the service answers right after. The tests are in `tests/e2e/bad_inputs/`; what no HTTP
library would send is in `tests/e2e/test_raw_requests.py`, and so are uploads that are cut (76).
Three numbers of uploads have no row: a class may be any value (63), a digest is not looked at (74),
and an upload has no parts (75).

The last columns are the most memory that the processes serving HTTP took meanwhile, in MiB above
what they take at rest; the tests allow {allowed} MiB. There an upload may have {upload} MiB and
unpack to {unpacked} MiB, and a JSON body may have {body} MiB; the figures grow with these limits.

`python -m tests.e2e.bad_inputs` writes this page.

| | input | status | place and detail | SQLite | PostgreSQL |
| ---: | --- | ---: | --- | ---: | ---: |
"""


class Peaks:
    """Collects what the tests measured, as a plugin of pytest."""

    def __init__(self) -> None:
        self.bytes: dict[str, dict[str, int]] = defaultdict(dict)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            measured = dict(report.user_properties)
            shape = report.nodeid.removesuffix("]").rpartition("-")[2]
            self.bytes[str(measured["row"])][shape] = int(str(measured["peak_bytes"]))


def main() -> int:
    """Run the tests; write the page if all passed."""
    peaks = Peaks()
    test = str(Path(__file__).with_name("test_bad_inputs.py"))
    failed = pytest.main(["--quiet", "--thorough", test], plugins=[peaks])
    if not failed:
        limits = {
            "allowed": PEAK_BYTES >> 20,
            **{
                what: int(GUARDED[f"CHAINRULE_{what.upper()}_LIMIT_BYTES"]) >> 20
                for what in ("upload", "unpacked", "body")
            },
        }
        PAGE.write_text(HEAD.format(**limits) + "".join(line(row, peaks) for row in ROWS))
    return int(failed)


def line(row: Row, peaks: Peaks) -> str:
    """Describe a row in Markdown."""
    place = f"`{row.pointer}` " if row.pointer else ""
    taken = [max(0, peaks.bytes[name(row)][shape]) for shape in ("embedded", "production")]
    said = row.says.replace("|", "\\|")
    cells = [row.item, row.name.replace("|", "\\|"), row.status, f"{place}{said}"]
    return f"| {' | '.join(map(str, [*cells, *(f'{each / 2**20:.0f}' for each in taken)]))} |\n"


if __name__ == "__main__":
    sys.exit(main())
