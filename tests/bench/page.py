"""Puts the figures of a run into docs/performance.md, which has them in this one place.

python -m tests.bench.page RESULT.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.figures import Line, table

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- figures: python -m tests.bench.page -->", "<!-- end of figures -->"


def rewritten(text: str, run: Mapping[str, Any]) -> str:
    """The page with the figures of this run. ValueError where it has no place for them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no place for figures: {BEGIN} and {END}")
    lines = [Line.from_json(each) for each in run["lines"]]
    return f"{before}{BEGIN}\n\n{table(lines)}\n\n{said(run)}\n\n{END}{after}"


def said(run: Mapping[str, Any]) -> str:
    """What stands under the table."""
    what = "A quick look, no measurement, on" if run["quick"] else "Measured on"
    left_out = "".join(f" Not measured: {name}, for {why}." for name, why in run["skipped"].items())
    left_out += "".join(f" {remark}" for remark in run.get("remarks", ()))
    return f"{what} {run['when']}: {run['machine']}; {run['seconds']} s.{left_out}"


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(DOCUMENT.read_text(), json.loads(Path(sys.argv[1]).read_text())))
