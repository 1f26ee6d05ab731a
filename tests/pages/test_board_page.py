"""The page at /board: what whoever runs the relays sees, and who may see it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from relay import schema, terminals
from tests.cluster import running_cluster
from tests.e2e.test_slow_readers import narrow
from tests.pages.evening import have_an_evening
from tests.pages.windows import SIZES, THEMES, Theme, Windows, picture, violations
from tests.relays import LocalRelay, local_relay, relay_process
from tests.terminals import Terminal, agree
from tests.waiting import slow_down, until


def board(relay: LocalRelay, query: str = "") -> str:
    return f"http://127.0.0.1:{relay.port}/board{query}"


def by_hand(database: str, statement: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(statement.encode())


@pytest_asyncio.fixture(loop_scope="session")
async def relay(shop: str) -> AsyncIterator[LocalRelay]:
    async with local_relay(shop) as running:
        yield running


async def test_the_board_shows_the_relay_its_terminals_and_that_all_is_well(
    relay: LocalRelay, windows: Windows
) -> None:
    async with Terminal(relay.url, "till-1"), Terminal(relay.url, "bar-1"):
        page = await windows.open(board(relay))
        await expect(page.locator(".health")).to_contain_text("All is well")
        await expect(page.locator(".relay")).to_have_count(1)
        await expect(page.locator(".relay")).to_contain_text("Healthy")
        for client_id in ("till-1", "bar-1"):
            await expect(page.locator(f'tr[data-client="{client_id}"]')).to_contain_text("up to date")
    await expect(page.locator(".terminals")).to_be_hidden()
    await expect(page.get_by_text("No terminal is connected", exact=True)).to_be_visible()


async def test_a_change_from_anywhere_is_logged_and_its_way_shown(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    async with Terminal(relay.url, "till-1") as till, Terminal(relay.url, "bar-1"):
        page = await windows.open(board(relay))
        revision = (await till.table("update", {"id": "4", "status": "occupied", "customer": "Daw Hla"}))["revision"]
        line = page.locator(".log-line").first
        await expect(line).to_contain_text("Table 4 changed")
        await expect(line).to_contain_text("Daw Hla")
        await expect(line).to_contain_text("till-1")
        way = page.locator(".way-detail")
        for step in ("Taken from the terminal", "Gets its revision", "Commit is answered", "Written to 2 terminals"):
            await expect(way).to_contain_text(step)
        await asyncio.to_thread(by_hand, shop, "update pos.tables set status = 'reserved' where number = 5")
        await expect(line).to_contain_text("Table 5 changed reserved")
        await expect(line).to_contain_text("psql")
        await expect(way).to_contain_text("Made in SQL, not through a relay")
        # The older one is chosen in the log, and stays chosen when another comes.
        await page.get_by_role("button", name=f"Show its way: {revision}").click()
        await expect(way).to_contain_text("Taken from the terminal")
        await till.table("update", {"id": "6", "status": "occupied"})
        await expect(line).to_contain_text("Table 6")
        await expect(way).to_have_attribute("data-change", f"default#{revision}")
        await page.get_by_role("button", name="Follow the newest").click()
        await expect(way).to_have_attribute("data-change", f"default#{revision + 2}")


async def test_the_log_is_searched_filtered_and_paused(relay: LocalRelay, windows: Windows) -> None:
    async with Terminal(relay.url, "till-1") as till:
        page = await windows.open(board(relay))
        await till.table("update", {"id": "4", "status": "occupied"})
        await till.dish("update_item", {"id": "1", "price": 2600})
        lines = page.locator(".log-line")
        await expect(lines.first).to_contain_text("Mohinga")
        await page.get_by_label("What").select_option(label="Tables")
        await expect(lines.filter(has_text="Mohinga")).to_have_count(0)
        await expect(lines.first).to_contain_text("Table 4 changed")
        await page.get_by_label("What").select_option(label="Everything")
        await page.get_by_placeholder("Table, guest, dish").fill("mohinga")
        await expect(lines.filter(has_text="Table 4 changed")).to_have_count(0)
        await expect(lines.first).to_contain_text("Mohinga")
        await page.get_by_placeholder("Table, guest, dish").fill("nothing of this kind")
        await expect(page.get_by_text("No change is like that")).to_be_visible()
        await page.get_by_placeholder("Table, guest, dish").fill("")
        await page.get_by_role("button", name="Pause").click()
        await till.table("update", {"id": "5", "status": "reserved"})
        await expect(page.get_by_text("Paused; 1 change since")).to_be_visible()
        await expect(lines.filter(has_text="Table 5 changed reserved")).to_have_count(0)
        await page.get_by_role("button", name="Go on").click()
        await expect(lines.first).to_contain_text("Table 5 changed reserved")


async def test_a_burst_is_counted_where_it_is_too_much_to_list(shop: str, relay: LocalRelay, windows: Windows) -> None:
    async with Terminal(relay.url, "till-1") as till:
        page = await windows.open(board(relay))
        await expect(page.locator(".health")).to_contain_text("All is well")
        burst = """insert into pos.tables (restaurant_id, id, number, seats)
            select 1, 'b' || n, 100 + n, 4 from generate_series(1, 2000) as n"""
        await asyncio.to_thread(by_hand, shop, burst)
        await agree(shop, till)
        await expect(page.locator(".log-line.note")).to_contain_text("came too fast to be listed")
        await expect(page.locator(".log-line").first).to_contain_text("Table 2100 added")
        await expect(page.locator(".relay .chart-box").first).to_contain_text("most")


async def test_a_terminal_that_does_not_read_is_named_first(shop: str, windows: Windows) -> None:
    async with local_relay(shop, window_bytes=1 << 25) as relay, Terminal(relay.url, "quick") as quick:
        slow = await narrow(relay.url, "slow")
        slow.stop_reading()
        page = await windows.open(board(relay))
        for _ in range(16):
            await asyncio.to_thread(change_largely, shop)
            await agree(shop, quick)
        await expect(page.locator(".health")).to_contain_text("1 terminal does not read as fast as changes come")
        first = page.locator(".terminals tbody tr").first
        await expect(first).to_have_attribute("data-client", "slow")
        await expect(first).to_contain_text(re.compile(r"\d+ changes?, does not read"))
        await expect(page.locator(".figure", has_text="Furthest behind")).to_contain_text("change")
        await expect(page.locator(".way-detail")).to_contain_text("1 terminal still lacks it")
        await page.get_by_label("Only those behind").check()
        await expect(page.locator(".terminals tbody tr")).to_have_count(1)
        await page.get_by_label("Only those behind").uncheck()
        await page.get_by_role("button", name="Terminal", exact=True).click()
        await expect(page.locator(".terminals tbody tr").first).to_have_attribute("data-client", "quick")
        slow.read_again()
        await agree(shop, slow)
        await expect(page.locator(".health")).to_contain_text("All is well")
        await slow.close()


def change_largely(database: str) -> None:
    """Eight changes of 128 kB each."""
    note = "jsonb_build_object('note', repeat(md5(random()::text), 4000))"
    by_hand(database, f"update pos.tables set extra = {note} where number <= 8")


async def test_a_relay_that_does_not_answer_is_said_and_comes_back_by_itself(shop: str, windows: Windows) -> None:
    async with local_relay(shop) as relay:
        page = await windows.open(board(relay))
        await expect(page.locator(".health")).to_contain_text("All is well")
        port = relay.port
    await expect(page.locator(".health")).to_contain_text("This relay does not answer")
    await expect(page.locator("#live")).to_contain_text("Last answer")
    async with local_relay(shop, port=port):
        await expect(page.locator(".health")).to_contain_text("All is well")


async def test_restaurants_are_chosen_and_the_address_keeps_the_choice(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    await asyncio.to_thread(by_hand, shop, "insert into pos.restaurants (slug, name) values ('bistro', 'Bistro')")
    async with Terminal(relay.url, "till-1"), Terminal(f"{relay.url}?restaurant=bistro", "bar-1"):
        page = await windows.open(board(relay))
        await expect(page.locator(".terminals tbody tr")).to_have_count(2)
        await page.get_by_label("Restaurant").select_option(label="bistro")
        await expect(page.locator(".terminals tbody tr")).to_have_count(1)
        await expect(page.locator('tr[data-client="bar-1"]')).to_be_visible()
        assert page.url.endswith("?restaurant=bistro")
        await page.reload()
        await expect(page.locator(".terminals tbody tr")).to_have_count(1)
        page = await windows.open(board(relay, "?restaurant=nowhere"))
        await expect(page.locator(".health")).to_contain_text("There is no restaurant")
        await page.close()
        windows.faults.clear()  # Chromium says of each 404 that there was one


# --- several relays


async def test_all_relays_and_their_terminals_are_on_one_board_and_a_change_is_followed_from_one_to_the_other(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    async with local_relay(shop) as other, Terminal(relay.url, "till-1"), Terminal(other.url, "bar-1") as bar:
        page = await windows.open(board(relay))
        await expect(page.locator(".relay")).to_have_count(2)
        here, there = relay.relay.presence.name, other.relay.presence.name
        await expect(page.locator(f'.relay[data-relay="{here}"]')).to_contain_text("this one")
        await expect(page.locator('tr[data-client="till-1"]')).to_contain_text(here)
        await expect(page.locator('tr[data-client="bar-1"]')).to_contain_text(there)
        await expect(page.locator(".health")).to_contain_text("2 relays serve 2 terminals")
        revision = (await bar.table("update", {"id": "4", "status": "occupied"}))["revision"]
        way = page.locator(".way-detail")
        await expect(way).to_have_attribute("data-change", f"default#{revision}")
        await expect(way).to_contain_text(f"Taken in by {there}")
        for name in (here, there):
            await expect(way.locator(".lane", has_text=f"Passed on by {name}")).to_be_visible()
        await expect(way.locator(".steps tr", has_text="Written to 1 terminal")).to_have_count(2)


async def test_a_relay_that_is_killed_turns_red_until_it_is_started_again(
    shop: str, relay: LocalRelay, windows: Windows
) -> None:
    async with relay_process(shop) as other:
        page = await windows.open(board(relay))
        card = page.locator(".relay", has_text=f":{other.port}")
        await expect(card).to_have_attribute("data-state", "healthy")
        await other.kill()
        await expect(card).to_have_attribute("data-state", "unanswered")
        await expect(page.locator(".health .bad")).to_contain_text("gave no answer")
        await expect(page).to_have_title(re.compile(f":{other.port} gave no answer"))
        await expect(card).to_have_attribute("data-state", "silent")
        await expect(card.locator(".chip.bad")).to_have_text("Silent")
        await expect(page.locator(".health .bad")).to_contain_text("is silent")
        spoken = page.get_by_role("status").filter(has_text="is silent")
        said, shown = await spoken.text_content(), await page.locator(".health").text_content()
        await expect(page.locator(".health")).not_to_have_text(shown or "")  # it says for how long
        assert await spoken.text_content() == said
        figure = page.locator(".figure", has_text="Terminals")
        await expect(figure).to_contain_text("at least 0")
        await page.reload()  # and nothing was ever drawn of it
        await expect(card).to_have_attribute("data-state", "silent")
        assert await violations(page) == []
        before = "started_at = started_at - interval '1 minute', seen_at = seen_at - interval '1 minute'"
        await asyncio.to_thread(by_hand, shop, f"update pos.instances set {before} where port = {other.port}")
        await expect(card).to_contain_text("heard of 1 min ago")
        await expect(figure).not_to_contain_text("at least")  # its terminals have noticed, too
        await other.start()
        await expect(card).to_have_attribute("data-state", "healthy")
        await expect(page.locator(".relay")).to_have_count(2)
        await expect(page.locator(".health")).to_contain_text("All is well")


async def test_without_the_database_the_board_still_says_what_is_known(windows: Windows) -> None:
    with running_cluster() as cluster:
        cluster.create_database("shop")
        await schema.apply(cluster.conninfo("shop"))
        async with local_relay(cluster.conninfo("shop")) as relay, local_relay(cluster.conninfo("shop")):
            page = await windows.open(board(relay))
            await expect(page.locator('.relay[data-state="healthy"]')).to_have_count(2)
            cluster.kill()
            await expect(page.locator(".relay", has_text="this one")).to_have_attribute("data-state", "down")
            await expect(page.locator(".health .bad")).to_contain_text("The database does not answer")
            await expect(page.locator('.relay[data-state="unknown"]')).to_have_count(1)
            await expect(page.locator(".figure", has_text="Terminals")).to_contain_text("at least 0")
            await expect(page.locator(".figure", has_text="Furthest behind")).not_to_contain_text("Nobody")
            # It was heard of 5 s before at the most, and nobody can have heard of it since.
            long_ago = re.compile(r"heard of ([6-9]\.\d s|\d\d s|\d+ min) ago")
            await expect(page.locator('.relay[data-state="unknown"]')).to_contain_text(long_ago)
            cluster.restart()
            await expect(page.locator('.relay[data-state="healthy"]')).to_have_count(2)


# --- who may look


async def test_a_managers_token_opens_the_board_and_no_other_does(shop: str, windows: Windows) -> None:
    tokens = {role: await terminals.add(shop, "default", role, role) for role in ("terminal", "manager")}
    async with local_relay(shop, auth="token") as relay, Terminal(relay.url, "till-1", tokens["terminal"]) as till:
        page = await windows.open(board(relay))
        windows.faults.clear()  # Chromium says of the 401 that there was one
        field = page.get_by_label("Token")
        await expect(field).to_be_focused()
        await expect(page.locator(".content")).to_be_hidden()
        await field.fill("hunter2")
        await field.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("begins with minipos_")
        await field.fill(tokens["terminal"])
        await field.press("Enter")
        await expect(page.get_by_role("alert")).to_contain_text("it needs one of a manager")
        await field.fill(tokens["manager"])
        await field.press("Enter")
        await expect(page.locator('tr[data-client="till-1"]')).to_contain_text("terminal")
        await expect(field).to_be_hidden()
        await page.reload()
        await expect(page.locator('tr[data-client="till-1"]')).to_be_visible()
        await till.table("update", {"id": "4", "status": "occupied"})
        await expect(page.locator(".log-line").first).to_contain_text("Table 4 changed")
        await terminals.revoke(shop, "default", "manager")
        await expect(page.get_by_role("alert")).to_contain_text("not known here; perhaps it was revoked")
        await expect(page.locator(".content")).to_be_hidden()
        await until(lambda: all("status of 40" in fault for fault in windows.faults), what="no other fault")
        windows.faults.clear()


# --- for everybody


async def on_show(page: Page, till: Terminal) -> int:
    """Something in every part of the board: a change of this revision."""
    ack = await till.table("update", {"id": "4", "status": "occupied", "customer": "Daw Hla", "guests": 3})
    await expect(page.locator(".log-line").first).to_contain_text("Table 4")
    await expect(page.locator(".way-detail")).to_contain_text("Written to")
    revision: int = ack["revision"]
    return revision


@pytest_asyncio.fixture(loop_scope="session")
async def evening(shop: str, relay: LocalRelay) -> AsyncIterator[list[Terminal]]:
    """Two relays, five terminals, and a change now and then."""
    await have_an_evening(shop)
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(local_relay(shop))
        at = dict.fromkeys(STAFF, relay) | {"waiter-mya": other, "kitchen-wall": other}
        staff = [await stack.enter_async_context(Terminal(where.url, name)) for name, where in at.items()]
        stack.push_async_callback(ended, asyncio.create_task(serve(staff[:-1])))
        yield staff


STAFF = ["till-7f3a", "bar-1", "waiter-ko", "waiter-mya", "kitchen-wall"]
GUESTS = ["Daw Hla", "U Ba", "Ma Ma", "Ko Zaw"]


async def serve(staff: list[Terminal]) -> None:
    """Seat guests and let them go, and change a price, for ever."""
    for number in count():
        waiter, table = staff[number % len(staff)], [1, 2, 7][number % 3]
        if number % 7 == 6:
            await waiter.dish("update_item", {"id": "6", "price": 1200 + number})
        else:
            status = ["occupied", "reserved", "available"][number // 3 % 3]
            guests = {} if status == "available" else {"customer": GUESTS[number % 4], "guests": 1 + number % 5}
            await waiter.table("update", {"id": str(table), "status": status, **guests})
        await slow_down(0.2)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("size", SIZES)
async def test_axe_finds_nothing_and_nothing_is_cut_off_in_the_pictures(
    relay: LocalRelay, windows: Windows, evening: list[Terminal], size: str, theme: Theme, tmp_path: Path
) -> None:
    page = await windows.open(board(relay), size=SIZES[size], theme=theme)
    await expect(page.locator(".relay")).to_have_count(2)
    await expect(page.locator(".terminals tbody tr")).to_have_count(len(evening))
    await expect(page.locator(".log-line").nth(24)).to_be_attached()
    await expect(page.locator(".way-detail .lane")).to_have_count(3)
    assert await violations(page) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await picture(page, f"board-{size}-{theme}", tmp_path)


async def test_the_token_form_and_a_fault_pass_axe_too(shop: str, windows: Windows) -> None:
    async with local_relay(shop, auth="token") as relay:
        page = await windows.open(board(relay))
        await expect(page.get_by_label("Token")).to_be_visible()
        assert await violations(page) == []
        windows.faults.clear()  # the 401
    async with local_relay(shop) as relay, Terminal(relay.url, "till-1") as till:
        page = await windows.open(board(relay))
        await on_show(page, till)
    await expect(page.locator(".health")).to_contain_text("This relay does not answer")
    await expect(page.locator("#live")).to_contain_text("Last answer")
    assert await violations(page) == []


async def test_the_keyboard_reaches_everything_and_a_list_keeps_its_focus(relay: LocalRelay, windows: Windows) -> None:
    async with Terminal(relay.url, "till-1") as till:
        page = await windows.open(board(relay))
        revision = await on_show(page, till)
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to the health")).to_be_focused()
        entry = page.locator(".way-entry").first
        await entry.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("button", name="Follow the newest")).to_have_attribute("aria-pressed", "false")
        await till.table("update", {"id": "5", "status": "reserved"})
        await expect(page.locator(".log-line").first).to_contain_text("Table 5")
        assert await page.evaluate("document.activeElement.matches('.way-entry[aria-current]')")
        await expect(page.locator(".way-detail")).to_have_attribute("data-change", f"default#{revision}")
