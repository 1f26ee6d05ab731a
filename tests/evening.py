"""One evening in a restaurant: six terminals over three relays on one database.

    python -m tests.evening --seed 7 --parties 60

What happens is fixed; when, to whom and how often is the seed's. Every terminal ends with what the database holds.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg

from relay import schema
from tests.cluster import running_cluster
from tests.patient import PatientTerminal as Waiter
from tests.patient import acknowledged_in_database
from tests.relays import RelayProcess
from tests.terminals import Row, agree
from tests.waiting import until

WAITERS = ("Aung", "Hla", "Khin", "Min", "Su", "Zaw")
GUESTS = ("Daw Mya", "Ko Htet", "Ma Thida", "Mr Ito", "Ms Okafor", "U Tun", "the Garcias", "the Lins")
TERRACE = "9"  # beside the eight tables of the seed; a table's id is its number here
AT_ONCE = 4  # parties, so that there is always a table left for what else happens
PATIENCE = 20.0  # seconds until a terminal shows something, whatever relays and locks do meanwhile
DUCK = {"id": "duck", "name": "Duck", "price": 9000, "category": "Tonight", "description": "", "image": "Q" * 300_000}
BY_HAND = """
insert into pos.order_history (restaurant_id, id, table_number, customer_name, status, total)
select restaurant_id, 'BY-HAND', 4, 'An aunt', 'completed', 4200.50 from pos.restaurants"""


@dataclass
class Party:
    """Guests, with what their waiter's pad says of them."""

    name: str
    came: str
    dice: random.Random
    waiter: Waiter
    order: str = ""
    table: str = "0"
    lines: dict[str, Row] = field(default_factory=dict)

    def wish(self) -> Row:
        dish, id = self.dice.choice([*self.waiter.menu.values()]), f"{self.name}, {self.dice.random()}"
        line = {"id": id, "name": dish["name"], "price": dish["price"], "quantity": self.dice.randint(1, 3)}
        return self.lines.setdefault(id, line)

    @property
    def bill(self) -> Row:
        bill = {"id": self.table, "status": "occupied", "customer": self.name, "orderId": self.order}
        return bill | {"orderItems": [*self.lines.values()], "orderTotal": self.total}

    @property
    def sale(self) -> Row:
        sale = {"id": self.order, "status": "completed", "tableNumber": int(self.table), "customerName": self.name}
        when = {"orderDate": self.came, "createdAt": self.came}
        return sale | when | {"items": [*self.lines.values()], "total": self.total}

    @property
    def total(self) -> int:
        return sum(line["price"] * line["quantity"] for line in self.lines.values())


class Evening:
    def __init__(self, conninfo: str, relays: list[RelayProcess], seed: int) -> None:
        self.conninfo, self.relays, self.seed, self.dice = conninfo, relays, seed, random.Random(seed)
        self.waiters = [Waiter(relays[n % len(relays)].url, name) for n, name in enumerate(WAITERS)]
        self.free: asyncio.Queue[str] = asyncio.Queue()  # tables that nobody sits at
        self.till: dict[str, Decimal | int] = {}  # what was paid, by who paid it
        self.parties, self.began = 0, time.monotonic()

    def tell(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:7.2f}  {text}", flush=True)

    async def play(self, parties: int) -> None:
        await asyncio.gather(*(waiter.connect() for waiter in self.waiters))
        await self.waiters[0].table("add", {"id": TERRACE, "number": 9, "seats": 4, "status": "available"})
        await agree(self.conninfo, *self.waiters)
        for table in self.waiters[0].tables:
            self.free.put_nowait(table)
        happenings = [self.menu_changes, self.lights_go_down_and_the_kitchen_rings, self.waiter_is_out_of_reach]
        happenings += [self.two_sales_want_one_id, self.owner_opens_psql, self.relay_dies]
        self.dice.shuffle(happenings)
        for hour, happening in enumerate(happenings):
            self.tell(f"--- {happening.__name__.replace('_', ' ')} ---")
            async with asyncio.TaskGroup() as service:
                service.create_task(happening())
                queue = iter(range(hour, parties, len(happenings)))
                for _ in range(AT_ONCE):
                    service.create_task(self.serve(queue))
            await agree(self.conninfo, *self.waiters)
        await self.close()

    def in_reach(self, dice: random.Random) -> list[Waiter]:
        return sorted((waiter for waiter in self.waiters if not waiter.away), key=lambda _: dice.random())

    def party(self, waiter: Waiter | None = None, order: str = "") -> Party:
        self.parties += 1
        came, dice = f"2026-01-01T{self.parties:012}", random.Random(f"{self.seed}, party {self.parties}")
        name = f"{dice.choice(GUESTS)} ({self.parties})"
        return Party(name, came, dice, waiter or self.in_reach(dice)[0], order)

    # A party's evening

    async def serve(self, queue: Iterator[int]) -> None:
        for _ in queue:
            await self.visit(self.party())

    async def visit(self, party: Party) -> None:
        party.table = await self.free.get()
        booked = {"status": party.dice.choice(["reserved", "occupied"]), "reservationTime": "19:30"}
        await party.waiter.table("update", {"id": party.table, "customer": party.name} | booked)
        if party.order or party.dice.random() < 0.9:
            await self.dine(party)
        await party.waiter.table("update", {"id": party.table, "status": "available"})
        self.tell(f"{party.name}: table {party.table}, pays {self.till.get(party.name, 'nothing')} and leaves")
        await until(lambda: not party.waiter.away, PATIENCE, f"{party.waiter.client_id} to be back")
        self.free.put_nowait(party.table)

    async def dine(self, party: Party) -> None:
        party.order = party.order or (await party.waiter.do("NEXT_ORDER_ID", {})).get("orderId", f"POS-{party.name}")
        dish = party.wish()["name"]
        await party.waiter.table("update", party.bill)
        await self.shown(party)
        self.tell(f"{party.name}: table {party.table}, {party.order}, {party.waiter.client_id} brings {dish}")
        for _ in range(party.dice.randint(1, 4)):
            await party.dice.choice([self.have_another_round, self.have_second_thoughts, self.move])(party)
        await self.shown(party)
        await party.waiter.order("add", party.sale)
        self.till[party.name] = party.total
        if not party.waiter.away and party.dice.random() < 0.15:
            await party.waiter.order("void", {"id": party.order})
            self.tell(f"{party.name}: {party.order} is void, and {self.till.pop(party.name)} paid back")

    async def have_another_round(self, party: Party) -> None:
        """Two waiters add to one table at the very same moment, and both lines stay; the second serves it from now."""
        first = party.waiter
        second = first if first.away else next(one for one in self.in_reach(party.dice) if one is not first)
        bring = [{"id": party.table, "orderId": party.order, "items": [party.wish()]} for _ in range(2)]
        await asyncio.gather(first.table("add_items", bring[0]), second.table("add_items", bring[1]))
        party.waiter = second

    async def have_second_thoughts(self, party: Party) -> None:
        """More of the first line; the last one goes back, if it is another."""
        first, *_, last = [*party.lines, *party.lines]
        more = {"id": first, "quantity": party.lines[first]["quantity"] + 1}
        await party.waiter.table("update_item", {"id": party.table, "items": [more]})
        party.lines[first] = party.lines[first] | more
        if last != first:
            await party.waiter.table("void_item", {"id": party.table, "items": [party.lines.pop(last)]})

    async def move(self, party: Party) -> None:
        await self.shown(party)
        if not self.free.empty() and not party.waiter.away:
            left, party.table = party.table, self.free.get_nowait()
            await party.waiter.table("update", party.bill)
            await until(lambda: "orderId" not in party.waiter.tables[left], PATIENCE, f"table {left} to be free")
            self.free.put_nowait(left)
            self.tell(f"{party.name}: from table {left} to table {party.table}")

    async def shown(self, party: Party) -> None:
        """Wait until the waiter's terminal shows what the pad says; the pad takes its order id and order of lines."""

        def found() -> bool:
            row = party.waiter.tables[party.table]
            lines = {line["id"]: line for line in row.get("orderItems", [])}
            if same := lines == party.lines:
                party.order, party.lines = row["orderId"], lines
            return same or party.waiter.away

        await until(found, PATIENCE, f"{party} as {party.waiter.client_id} shows it")

    # What else happens

    async def menu_changes(self) -> None:
        first, second, *_ = self.in_reach(self.dice)
        dear, gone = self.dice.sample([*first.menu.values()], 2)
        await asyncio.gather(first.dish("update_item", dear | {"price": 4321}), second.dish("add_item", DUCK))
        await asyncio.gather(*(waiter.dish("add_category", {"name": "Tonight"}) for waiter in (first, second)))
        await second.dish("delete_category", {"name": "Pasta"})
        await second.dish("delete_item", {"id": gone["id"]})

    async def lights_go_down_and_the_kitchen_rings(self) -> None:
        cook, *others = self.in_reach(self.dice)
        fee, look = {"serviceCharge": 10, "serviceChargeEnabled": True}, {"theme": "dark", "lamps": "lit"}
        await asyncio.gather(cook.do("UPDATE_SETTINGS", fee), others[0].do("UPDATE_SETTINGS", look))
        await until(lambda: all((fee | look).items() <= waiter.settings.items() for waiter in self.waiters), PATIENCE)
        await cook.do("MESSAGE", {"text": "table 4, please"})
        assert {(await one.hears("MESSAGE", PATIENCE))["clientId"] for one in others} == {cook.client_id}

    async def waiter_is_out_of_reach(self) -> None:
        """It goes on by itself, and numbers an order as another waiter does meanwhile."""
        waiter, *_ = self.in_reach(self.dice)
        await waiter.leave()
        async with asyncio.TaskGroup() as alone:
            alone.create_task(self.visit(self.party(waiter, "POS-01012026-001")))
            for number in ("POS-01012026-001", "", ""):
                await self.visit(self.party(order=number))
            self.tell(f"{waiter.client_id} is back, {waiter.revision} was its revision, and sends {len(waiter.queue)}")
            await waiter.come_back(self.dice.choice(self.relays).url)

    async def two_sales_want_one_id(self) -> None:
        both = self.in_reach(self.dice)[:2]
        await asyncio.gather(*(self.visit(self.party(waiter, "POS-01012026-101")) for waiter in both))
        await asyncio.gather(*(self.sell_over_the_counter(waiter, "POS-01012026-201") for waiter in both))

    async def sell_over_the_counter(self, waiter: Waiter, wanted: str) -> None:
        party = self.party(waiter, wanted)
        party.wish()
        answer = await waiter.ask("UPDATE_ORDER", {"action": "add", "data": party.sale})
        party.order = answer["data"].get("suggestedId", wanted)
        await waiter.order("add", party.sale)  # the same again, if it was not refused
        self.till[party.name] = party.total
        self.tell(f"{party.name}: {party.order}, over the counter, {waiter.client_id} takes {party.total}")

    async def owner_opens_psql(self) -> None:
        (first, second, *_), table = self.in_reach(self.dice), await self.free.get()
        dish = self.dice.choice([*first.menu.values()])
        async with await psycopg.AsyncConnection.connect(self.conninfo, autocommit=True) as owner:
            await owner.execute("update pos.tables set status = 'reserved' where number = %s", [int(table)])
            async with asyncio.TaskGroup() as meanwhile, owner.transaction():
                await owner.execute("update pos.menu_items set price = round(price * 1.1)")
                meanwhile.create_task(first.dish("update_item", dish | {"price": 1234}))  # waits for the owner
                await second.table("update", {"id": table, "status": "available"})  # does not
            await owner.execute(BY_HAND)
        self.till["An aunt"] = Decimal("4200.50")
        self.free.put_nowait(table)

    async def relay_dies(self) -> None:
        """It is killed while its waiters bring a hundred teas to one table; they go on elsewhere."""
        victim, *others = self.dice.sample(self.relays, len(self.relays))
        stranded, table = [one for one in self.waiters if one.url == victim.url], await self.free.get()
        async with asyncio.TaskGroup() as rush:
            for number in range(100):
                tea = {"id": table, "items": [{"id": f"tea {number}", "price": 100}]}
                rush.create_task(self.dice.choice(stranded).table("add_items", tea))
            await until(lambda: "orderItems" in stranded[0].tables[table], PATIENCE)
            await victim.kill()
            await asyncio.gather(*(waiter.come_back(self.dice.choice(others).url) for waiter in stranded))
        await until(lambda: stranded[0].tables[table]["orderTotal"] == 10_000, PATIENCE)
        self.tell(f"table {table} has its teas; {' and '.join(one.client_id for one in stranded)} are at other relays")
        await stranded[0].table("update", {"id": table, "status": "available"})
        self.free.put_nowait(table)
        await victim.start()
        await stranded[0].come_back(victim.url)

    async def close(self) -> None:
        self.tell("--- closing ---")
        first, second, *_ = self.in_reach(self.dice)
        head, taken = first.revision, sum(self.till.values())
        for waiter in self.waiters:
            assert sum(order["total"] for order in waiter.orders.values() if order["status"] == "completed") == taken
        await asyncio.gather(*(waiter.repeat_everything() for waiter in self.waiters))
        assert (await first.order("clear", {}))["revision"] == head + 1
        await second.table("delete", {"id": TERRACE})
        await self.sell_over_the_counter(first, "LAST")
        await agree(self.conninfo, *self.waiters)
        acknowledged_in_database(self.conninfo, *self.waiters)
        with psycopg.connect(self.conninfo) as sql:
            paid = sql.execute("select sum(total) from pos.order_history where status = 'completed'").fetchone()
        assert paid == (sum(self.till.values()),)
        for waiter in self.waiters:
            assert [*waiter.orders] == ["LAST"]
            assert waiter.applied == first.applied  # change by change
            assert len(waiter.snapshots) == 1, f"{waiter.client_id} did not resume from its cursor"
        self.tell(f"{len(self.till)} sales, {sum(self.till.values())}; every terminal shows revision {first.revision}")


async def play(conninfo: str, *, seed: int, parties: int) -> None:
    """Play one evening on a database that has the schema and nothing else."""
    await schema.seed(conninfo)
    relays = [RelayProcess(conninfo) for _ in range(3)]
    evening = Evening(conninfo, relays, seed)
    evening.tell(f"EVENING_SEED={seed}, {parties} parties")
    try:
        await asyncio.gather(*(relay.start() for relay in relays))
        await evening.play(parties)
    finally:
        await asyncio.gather(*(waiter.cut() for waiter in evening.waiters))
        await asyncio.gather(*(relay.stop() for relay in relays))
    assert not any("Traceback" in relay.log for relay in relays)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Play one evening in a restaurant.")
    options.add_argument("--seed", type=int, default=os.environ.get("EVENING_SEED", random.randrange(10_000)))
    options.add_argument("--parties", type=int, default=60)
    chosen = vars(options.parse_args())
    with running_cluster() as cluster:
        cluster.create_database("evening")
        asyncio.run(schema.apply(cluster.conninfo("evening")))
        asyncio.run(play(cluster.conninfo("evening"), **chosen))
