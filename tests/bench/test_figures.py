"""The bench's arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.bench import page
from tests.bench.__main__ import ROWS
from tests.bench.figures import Line, Reach, number, table
from tests.bench.traced import Note, stages

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "performance.md"
MILLISECOND = 1_000_000  # nanoseconds


def line(*relay: float, reference: tuple[float, ...] = (), reach: Reach | None = None, what: str = "µs") -> Line:
    return Line("paced", what, relay, "C" if reference else "", reference, reach)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert line(9.0, 100.0, 7.0).figure == 9.0
    assert line(9.0, 100.0).figure == 54.5


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians() -> None:
    # The machine was three times as slow in the second round, for both.
    assert line(10.0, 30.0, 12.0, reference=(5.0, 15.0, 12.0)).ratio == 2.0


def test_there_is_no_ratio_without_a_reference_or_to_nothing() -> None:
    assert line(1.0).ratio is None
    assert line(1.0, reference=(0.0,)).ratio is None


@pytest.mark.parametrize(
    ("reach", "reached"),
    [
        (Reach(8.0), True),
        (Reach(7.9), False),
        (Reach(8.0, at_most=False), True),
        (Reach(8.1, at_most=False), False),
        (Reach(2.0, ratio=True), True),
        (Reach(1.9, ratio=True), False),
        (Reach(2.0, at_most=False, ratio=True), True),
        (Reach(2.1, at_most=False, ratio=True), False),
    ],
)
def test_a_reach_is_of_the_figure_or_of_the_ratio_and_from_above_or_below(reach: Reach, reached: bool) -> None:
    found = line(8.0, reference=(4.0,), reach=reach)
    assert reach.is_reached(found.figure, found.ratio) is reached
    assert found.cells()[-1].endswith("yes" if reached else "**no**")


def test_what_has_no_reference_does_not_reach_a_ratio_and_does_not_miss_it_either() -> None:
    assert line(8.0, reach=Reach(2.0, ratio=True)).cells()[-1] == "≤ 2.00 times"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (4803732.4, "4,800,000"),
        (99.96, "100"),
        (13.07, "13.1"),
        (9.996, "10.0"),
        (0.17, "0.17"),
        (0.0583, "0.058"),
        (0.0, "0"),
        (-0.3712, "-0.37"),
    ],
)
def test_a_number_shows_the_digits_that_count(value: float, written: str) -> None:
    assert number(value) == written


def test_a_table_says_once_what_holds_for_the_lines_below() -> None:
    lines = [line(2.0, reference=(1.0,)), line(2.0, reference=(4.0,)), line(3.0, what="ms")]
    head, rule, *rows = ([cell.strip() for cell in each.strip("|").split("|")] for each in table(lines).splitlines())
    assert head[:3] == ["row", "measured", "relay"]
    assert all(re.fullmatch("-+:?", cell) for cell in rule)
    assert rows[0][:6] == ["paced", "µs", "2.00", "C", "1.00", "2.00"]
    assert rows[1][:6] == ["", "", "", "C", "4.00", "0.50"]
    assert rows[2][:6] == ["", "ms", "3.00", "", "", ""]
    assert len({len(each) for each in table(lines).splitlines()}) == 1


def test_a_line_survives_a_file() -> None:
    for one in (line(1.5, 2.5, reference=(3.0, 4.0), reach=Reach(8, at_most=False, ratio=True)), line(1.0)):
        assert Line.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_the_stages_of_a_change_are_the_times_between_its_notes() -> None:
    began = 1_795_000_000_000_000_000
    names = ("submitted", "applying", "committed", "read", "written")
    noted = [Note(name, began + MILLISECOND * when) for name, when in zip(names, (1, 3, 9, 10, 14), strict=True)]
    noted[0] = noted[0]._replace(mark=began)
    assert stages(noted, 0) == {
        "receive": [1.0],
        "batch": [2.0],
        "commit": [6.0],
        "read": [1.0],
        "write": [4.0],
    }
    assert not any(stages(noted, 1).values())  # it was a terminal's first


def test_a_change_whose_end_was_not_seen_does_not_count() -> None:
    began = 1_795_000_000_000_000_000
    noted = [Note("submitted", began, began), Note("applying", began + 1), Note("submitted", began + 2, began)]
    assert not any(stages(noted, 0).values())


def test_the_page_is_given_the_figures_of_a_run_and_keeps_its_words() -> None:
    run = {
        "machine": "2 cores",
        "when": "2026-11-26",
        "seconds": 300,
        "quick": False,
        "skipped": {"C": "no cc"},
        "remarks": ["It was busy."],
    }
    lines = [line(2.0, reference=(1.0,)).as_json()]
    found = page.rewritten(DOCUMENT.read_text(), {**run, "lines": lines})
    before, _, rest = found.partition(page.BEGIN)
    figures, _, after = rest.partition(page.END)
    assert before + after == re.sub(f"{page.BEGIN}.*{page.END}", "", DOCUMENT.read_text(), flags=re.DOTALL)
    assert table([line(2.0, reference=(1.0,))]) in figures
    assert "2 cores" in figures
    assert "no cc" in figures
    assert "It was busy." in figures


def test_the_page_has_a_figure_of_every_row() -> None:
    figures = DOCUMENT.read_text().partition(page.BEGIN)[2].partition(page.END)[0]
    assert [name for name in ROWS if f"\n| {name} " not in figures] == []
