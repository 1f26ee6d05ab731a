"""What a terminal of either library has stored stays stored, whatever becomes of its process and its disk."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from tests.library.driven import Driven, driven, needs
from tests.library.scripted import ScriptedRelay

MANY = 20


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def test_a_disk_that_is_nearly_full_at_the_start_loses_nothing(
    scripted: ScriptedRelay, terminal: Driven, tmp_path: Path
) -> None:
    await scripted.stop()
    ids = [await terminal.change("UPDATE_ORDER", "add", {"id": f"o{n}", "note": "x" * 2000}) for n in range(MANY)]
    await terminal.do("stop")
    await terminal.kill()
    await terminal.launch()
    assert terminal.process is not None
    # A file may grow to half of what is pending, and what is written beyond that is cut off (setrlimit(2)).
    half = size_of(tmp_path) // 2
    resource.prlimit(terminal.process.pid, resource.RLIMIT_FSIZE, (half, resource.RLIM_INFINITY))
    await terminal.do("start")
    assert (await terminal.report())["pending"] == ids
    await terminal.kill()
    await terminal.start()
    assert (await terminal.report())["pending"] == ids
    await terminal.change("UPDATE_ORDER", "add", {"id": "another"})


async def test_a_file_that_another_process_has_taken_takes_nothing_more(
    scripted: ScriptedRelay, tmp_path: Path
) -> None:
    needs("node")
    store = tmp_path / "terminal"
    async with driven("node", scripted.url, store) as first, driven("node", scripted.url, store) as second:
        kept = await second.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 2})
        with pytest.raises(AssertionError, match="another process has taken"):
            await first.change("UPDATE_TABLE", "update", {"id": "t1", "seats": 3})
        assert (await first.report())["pending"] == []
        await second.kill()
        await second.start()
        assert (await second.report())["pending"] == [kept]
