"""Roll calls over several relays: every terminal is seen and closed wherever it is, also by those that are deaf."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from typing import Any

import psycopg
import pytest
import websockets

from relay import rollcall, terminals
from relay.connection import Connection
from relay.errors import RelayError, TerminalError, UnknownRestaurant
from relay.presence import LOOK_SECONDS
from relay.rollcall import Roll, Wanted
from tests.e2e.test_slow_readers import KERNEL_BYTES, SIZE, narrow
from tests.faults.deeds import TABLE, add_restaurant, execute
from tests.faults.test_instances import instances
from tests.flow import add_tables, make_changes
from tests.least import as_role, install_roles
from tests.relays import LocalRelay, local_relay, relay_process
from tests.terminals import Terminal, agree
from tests.test_terminal_command import relay as command
from tests.waiting import until


def by_client(roll: Roll) -> dict[str, dict[str, Any]]:
    return {one["clientId"]: one for one in roll.terminals}


def name_of(relay: LocalRelay) -> str:
    return f"{relay.relay.presence._host}:{relay.port}"


async def test_every_terminal_is_seen_with_the_relay_that_it_is_at(database: str) -> None:
    async with instances(database, 3) as found:
        await found[0][1].table("add", {"id": "t", "number": 1, **TABLE})
        await agree(database, *(terminal for _, terminal in found))
        roll = await rollcall.call(database, Wanted())
        seen = by_client(roll)
        assert {client: one["instance"] for client, one in seen.items()} == {
            terminal.client_id: name_of(relay) for relay, terminal in found
        }
        assert len(roll.instances) == 3
        assert all(one.answered and not one.silent for one in roll.instances)
        for one in seen.values():
            assert (one["restaurant"], one["state"], one["profile"]) == ("default", "live", "core")
            assert (one["revision"], one["behind"], one["waitingBytes"], one["lagging"]) == (1, 0, 0, False)
            assert one["address"] == "127.0.0.1"
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one["connectedAt"])
        only = await rollcall.call(database, Wanted(instance=name_of(found[1][0])))
        assert list(by_client(only)) == [found[1][1].client_id]
        assert len(only.instances) == 1


async def test_an_answer_is_kept_no_longer_than_the_database_needs_to_hear_it(database: str) -> None:
    async with local_relay(database) as relay, Terminal(relay.url, "here"):
        for _ in range(3):
            assert list(by_client(await rollcall.call(database, Wanted()))) == ["here"]
        await until(lambda: not relay.relay.presence._answers)


async def test_only_the_restaurant_that_is_asked_for_is_shown(database: str) -> None:
    add_restaurant(database, "bistro")
    async with (
        local_relay(database) as relay,
        Terminal(relay.url, "here"),
        Terminal(f"{relay.url}?restaurant=bistro", "there"),
    ):
        assert list(by_client(await rollcall.call(database, Wanted("bistro")))) == ["there"]
        assert list(by_client(await rollcall.call(database, Wanted()))) == ["there", "here"]
        with pytest.raises(UnknownRestaurant):
            await rollcall.call(database, Wanted("nowhere"))


async def test_who_does_not_read_is_seen_to_be_behind(database: str) -> None:
    add_tables(database)
    async with local_relay(database, window_bytes=1 << 25) as relay, Terminal(relay.url, "quick") as quick:
        slow = await narrow(relay.url, "slow")
        slow.stop_reading()
        await asyncio.to_thread(make_changes, database, 2 * KERNEL_BYTES // SIZE, size=SIZE)
        await agree(database, quick)
        seen = by_client(await rollcall.call(database, Wanted()))
        assert seen["slow"]["behind"] == quick.revision - seen["slow"]["revision"] > 0
        assert seen["slow"]["lagging"] is True
        assert seen["slow"]["waitingBytes"] > 0
        assert (seen["quick"]["behind"], seen["quick"]["lagging"]) == (0, False)
        await slow.cut()


async def test_a_kicked_terminal_is_closed_on_every_relay_and_no_other_is(database: str) -> None:
    async with instances(database, 2) as ((first, here), (second, there)):
        twice = [await Terminal(relay.url, "twice").connect() for relay in (first, second)]
        roll = await rollcall.kick(database, Wanted(client_id="twice"), come_back=False)
        assert sorted(one["instance"] for one in roll.terminals) == sorted([name_of(first), name_of(second)])
        for one in twice:
            await until(lambda one=one: one.close_code)  # type: ignore[misc]
            assert one.close_code == 1008
            assert one.close_reason.startswith("closed by hand; ")
        assert here.close_code is there.close_code is None
        await here.table("add", {"id": "t", "number": 1, **TABLE})
        await agree(database, here, there)
        assert (await rollcall.kick(database, Wanted(client_id="twice"), come_back=False)).terminals == []


async def test_one_that_is_to_come_back_is_answered_first_and_told_when(database: str) -> None:
    async with local_relay(database) as relay, Terminal(relay.url, "one") as one:
        answer = asyncio.create_task(one.table("add", {"id": "t", "number": 1, **TABLE}))
        await until(lambda: relay.relay.writer.pending or answer.done())
        await rollcall.kick(database, Wanted(client_id="one"), come_back=True)
        assert (await answer)["revision"] == 1
        await until(lambda: one.close_code)
        assert (one.close_code, one.close_reason) == (1012, "closed by hand; retry after 1.0 s")


async def test_a_terminal_is_kicked_by_its_enrolled_name_and_not_by_what_it_calls_itself(database: str) -> None:
    token = await terminals.add(database, "default", "Bar 1", "terminal")
    other = await terminals.add(database, "default", "Bar 2", "terminal")
    async with local_relay(database, auth="token") as relay:
        one = await Terminal(relay.url, token=token).connect()
        liar = Terminal(relay.url, "liar", token=other)
        await liar.connect(hello=False, sync=False)
        await liar.say("CLIENT_CONNECTED", {"clientId": "liar", "name": "Bar 1", "token": other})
        await liar.sync()
        seen = by_client(await rollcall.call(database, Wanted()))
        assert {client: (row["name"], row["role"]) for client, row in seen.items()} == {
            one.client_id: ("Bar 1", "terminal"),
            "liar": ("Bar 2", "terminal"),
        }
        assert len((await rollcall.kick(database, Wanted(terminal="Bar 1"), come_back=False)).terminals) == 1
        await until(lambda: one.close_code)
        assert liar.close_code is None
        await one.close()
        await liar.close()


async def test_what_a_kicked_terminal_says_afterwards_does_not_count(database: str) -> None:
    async with local_relay(database) as relay, websockets.connect(relay.url) as socket:
        await socket.send(json.dumps({"type": "CLIENT_CONNECTED", "data": {"clientId": "one"}}))
        await until(lambda: any(s.client_id == "one" for s in relay.relay.hub.sessions))
        [connection] = relay.relay.connections.open
        assert isinstance(connection, Connection)
        await rollcall.kick(database, Wanted(client_id="one"), come_back=False)
        body = {"action": "add", "data": {"id": "t", "number": 1, **TABLE}}
        # As if it had been on its way here when the socket was closed.
        await connection._take(json.dumps({"type": "UPDATE_TABLE", "data": body, "clientId": "one"}))
        assert relay.relay.writer.pending == 0
        assert execute(database, "select count(*) from pos.tables") == 0


async def test_a_kick_needs_the_restaurant_where_several_have_such_a_terminal(database: str) -> None:
    add_restaurant(database, "bistro")
    async with (
        local_relay(database) as relay,
        Terminal(relay.url, "till") as here,
        Terminal(f"{relay.url}?restaurant=bistro", "till") as there,
    ):
        with pytest.raises(TerminalError, match="bistro, default; name --restaurant"):
            await rollcall.kick(database, Wanted(client_id="till"), come_back=False)
        await rollcall.kick(database, Wanted("bistro", "till"), come_back=False)
        await until(lambda: there.close_code)
        assert here.close_code is None


async def test_a_deaf_relay_answers_too_if_later(database: str, empty_database: str) -> None:
    async with (
        local_relay(database, listen_conninfo=empty_database, wait_ready=False) as deaf,
        Terminal(deaf.url, "one") as one,
    ):
        await until(lambda: execute(database, "select count(*) from pos.instances") == 1)
        call = execute(database, "select pos.call_terminals('kick', null, 'one', null, null, false)")
        await until(lambda: one.close_code)
        answered = "select answered and jsonb_array_length(terminals) = 1 from pos.read_call(%s, '{}')"
        await until(lambda: execute(database, answered, call))


async def test_a_relay_that_stands_still_is_missed_and_then_silent(database: str) -> None:
    async with local_relay(database) as relay, Terminal(relay.url, "here"), relay_process(database) as frozen:
        await until(lambda: execute(database, "select count(*) from pos.instances where port > 0") == 2)
        frozen.send(signal.SIGSTOP)
        roll = await rollcall.call(database, Wanted())
        assert {one.port: (one.answered, one.missing) for one in roll.instances} == {
            relay.port: (True, False),
            frozen.port: (False, True),
        }
        assert list(by_client(roll)) == ["here"], "what the others answered is there"
        done = await asyncio.to_thread(command, database, "terminals")
        assert done.returncode == 1
        assert f":{frozen.port} did not answer; try again, and look at its log" in done.stderr
        execute(database, "update pos.instances set seen_at = now() - interval '20 s' where port = %s", frozen.port)
        done = await asyncio.to_thread(command, database, "terminals")
        assert done.returncode == 0
        assert re.search(rf":{frozen.port} was not heard of for 2\d s; it is gone, or stands still", done.stderr)
        # What it was asked meanwhile it does not do when it goes on: those who asked have gone.
        execute(database, "update pos.calls set created_at = now() - interval '11 s'")
        before = execute(database, "select count(*) from pos.call_answers")
        frozen.send(signal.SIGCONT)
        await until(lambda: execute(database, "select bool_and(seen_at > now() - interval '5 s') from pos.instances"))
        assert execute(database, "select count(*) from pos.call_answers") == before


async def test_a_relay_that_ends_is_not_listed_any_more(database: str) -> None:
    async with local_relay(database), relay_process(database) as ending:
        await until(lambda: execute(database, "select count(*) from pos.instances where port > 0") == 2)
        await ending.stop()
        assert len((await rollcall.call(database, Wanted())).instances) == 1
    assert execute(database, "select count(*) from pos.instances") == 0


async def test_a_crash_of_postgresql_forgets_no_relay_for_long(database: str) -> None:
    # Unlogged tables are empty then.
    async with local_relay(database) as relay, Terminal(relay.url, "one"):
        await until(lambda: execute(database, "select count(*) from pos.instances") == 1)
        execute(database, "truncate pos.instances, pos.calls, pos.call_answers")
        await until(lambda: execute(database, "select count(*) from pos.instances") == 1)
        assert list(by_client(await rollcall.call(database, Wanted()))) == ["one"]


async def test_a_relay_whose_row_may_not_go_ends_in_peace(database: str) -> None:
    async with local_relay(database) as relay:
        await until(lambda: execute(database, "select count(*) from pos.instances") == 1)
        # As a foreign key of a DBA's says it, from a table of the relays there have been.
        execute(
            database,
            "create function stays() returns trigger language plpgsql as"
            " $$ begin raise exception 'still referenced' using errcode = '23503'; end $$;"
            " create trigger z before delete on pos.instances for each row execute function stays()",
        )
        relay.relay.stop()
        await relay.task  # raises what ended a part
    assert execute(database, "select count(*) from pos.instances") == 1


async def test_forged_bells_cost_a_few_looks_a_second(database: str) -> None:
    def forge() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            for number in range(3000):
                connection.execute(f"notify pos_roll_call, '{number}'".encode())

    async with local_relay(database) as relay, Terminal(relay.url, "one") as one:
        presence = relay.relay.presence
        looks, attend = 0, presence._attend

        async def counted() -> None:
            nonlocal looks
            looks += 1
            await attend()

        presence._attend = counted  # type: ignore[method-assign]
        started = time.monotonic()
        await asyncio.to_thread(forge)
        await one.table("add", {"id": "t", "number": 1, **TABLE})
        assert looks <= (time.monotonic() - started) / LOOK_SECONDS + 2
        assert list(by_client(await rollcall.call(database, Wanted()))) == ["one"]


async def test_too_many_calls_are_refused_with_what_to_do(database: str) -> None:
    for _ in range(100):
        execute(database, "select pos.call_terminals('list', null, null, null, null, false)")
    with pytest.raises(RelayError, match=r"100 roll calls within ten seconds\. Wait ten seconds\."):
        await rollcall.call(database, Wanted())


async def test_as_their_roles_the_relay_answers_and_pos_admin_asks(database: str) -> None:
    install_roles(database)
    execute(database, "create role roll_caller login in role pos_admin")
    try:
        async with (
            local_relay(as_role(database, "pos_relay")) as relay,
            Terminal(relay.url, "one") as one,
        ):
            caller = as_role(database, "roll_caller")
            assert list(by_client(await rollcall.call(caller, Wanted("default")))) == ["one"]
            assert len((await rollcall.kick(caller, Wanted(client_id="one"), come_back=False)).terminals) == 1
            await until(lambda: one.close_code)
    finally:
        execute(database, "drop role roll_caller")


async def test_the_commands_say_who_is_there_and_who_was_closed(database: str) -> None:
    add_restaurant(database, "bistro")
    async with (
        local_relay(database) as relay,
        Terminal(relay.url, "odd\u001b[2J") as odd,
        Terminal(relay.url, "plain") as plain,
    ):
        done = await asyncio.to_thread(command, database, "terminals")
        assert (done.returncode, done.stderr) == (0, "2 terminals on 1 relay connected\n")
        heading, *rows = done.stdout.splitlines()
        assert heading.split()[:3] == ["RESTAURANT", "NAME", "ROLE"]
        assert [row.split()[:4] for row in rows] == [
            ["default", "-", "-", "odd\ufffd[2J"],
            ["default", "-", "-", "plain"],
        ]
        done = await asyncio.to_thread(command, database, "terminals", "--json")
        found = json.loads(done.stdout)
        assert {one["clientId"] for one in found["terminals"]} == {"odd\u001b[2J", "plain"}
        assert [(one["instance"], one["answered"]) for one in found["instances"]] == [(name_of(relay), True)]
        done = await asyncio.to_thread(command, database, "kick", "plain")
        assert (done.returncode, done.stdout) == (0, "1 terminal on 1 relay closed\n")
        await until(lambda: plain.close_code)
        assert odd.close_code is None
        done = await asyncio.to_thread(command, database, "kick", "plain")
        assert (done.returncode, done.stdout) == (1, "0 terminals on 0 relays closed\n")
        assert done.stderr == "relay: no such terminal is connected; relay terminals shows them\n"
        done = await asyncio.to_thread(command, database, "terminals", "--restaurant", "bistro")
        assert (done.returncode, done.stderr) == (0, "0 terminals on 1 relay connected\n")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["kick"], 2, "name a CLIENT id, or --terminal NAME; relay terminals shows both"),
        (["kick", "a", "--terminal", "b"], 2, "name either a CLIENT id or --terminal NAME, not both"),
        (["kick", "a", "--restaurant", "nowhere"], 1, "there is no restaurant 'nowhere'"),
        (["kick", "a", "--instance", "x:1"], 1, "no relay 'x:1' is running. relay terminals lists those that are."),
        (["terminals", "--instance", "x:1"], 1, "no relay 'x:1' is running."),
        (["terminals"], 0, "no relay is running on this database"),
    ],
)
def test_a_command_that_cannot_do_what_is_asked_says_why(
    database: str, arguments: list[str], status: int, said: str
) -> None:
    done = command(database, *arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
