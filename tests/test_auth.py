"""Who a terminal is and what it may do, decided without a socket."""

from __future__ import annotations

import pytest

from relay import auth, protocol
from relay.appmessages import KINDS
from relay.auth import Identity, Shown, check_restaurant, digest, may, new_token, shown, why_not
from relay.errors import REASON_BYTES, Unauthorized

TOKEN, OTHER = f"minipos_{'a' * 43}", f"minipos_{'b' * 43}"


def bearer(value: str) -> tuple[bytes, bytes]:
    return b"authorization", value.encode("latin-1")


# --- what a request shows


@pytest.mark.parametrize(
    ("headers", "subprotocols", "token", "answered"),
    [
        ([], [], None, None),
        ([bearer(f"Bearer {TOKEN}")], [], TOKEN, None),
        ([bearer(f"bearer   {TOKEN} ")], [], TOKEN, None),
        ([bearer("Basic bWF5Om00eQ==")], [], None, None),
        ([bearer(TOKEN)], [], None, None),
        ([bearer("Bearer ")], [], None, None),
        ([], [f"minipos.token.{TOKEN}"], TOKEN, f"minipos.token.{TOKEN}"),
        ([], ["minipos", f"minipos.token.{TOKEN}"], TOKEN, "minipos"),
        ([], ["minipos"], None, "minipos"),
        ([], ["graphql-ws"], None, None),
        ([bearer(f"Bearer {OTHER}")], [f"minipos.token.{TOKEN}"], TOKEN, f"minipos.token.{TOKEN}"),
    ],
)
def test_a_token_is_found_where_it_may_stand(
    headers: list[tuple[bytes, bytes]], subprotocols: list[str], token: str | None, answered: str | None
) -> None:
    seen = shown([(b"host", b"pos"), *headers], subprotocols, b"")
    assert ((seen.token or None), seen.subprotocol, seen.fault) == (token, answered, None)


@pytest.mark.parametrize(
    "query",
    [
        f"token={TOKEN}",
        "token=anything",
        "restaurant=bistro&access_token=x",
        "Authorization=Bearer%20x",
        "jwt=a.b.c",
        f"t={TOKEN}",
        f"restaurant={TOKEN}",
    ],
)
def test_a_token_in_the_url_is_told_of(query: str) -> None:
    assert shown([bearer(f"Bearer {TOKEN}")], [], query.encode()).fault == auth.IN_URL


def test_what_else_stands_in_the_url_is_left_alone() -> None:
    seen = shown([], [], b"restaurant=bistro&restaurant=cafe&profile=core&till=4&author=me&tokens=3&token=")
    assert (seen.slug, seen.profile, seen.fault) == ("bistro", "core", None)
    assert shown([], [], b"restaurant=") == Shown()
    assert shown([], [], "restaurant=\xff".encode("latin-1")).slug == "ÿ"


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ([bearer(f"Bearer {TOKEN}"), bearer(f"Bearer {OTHER}")], []),
        ([], [f"minipos.token.{TOKEN}", f"minipos.token.{OTHER}"]),
    ],
)
def test_two_tokens_are_one_too_many(headers: list[tuple[bytes, bytes]], subprotocols: list[str]) -> None:
    assert shown(headers, subprotocols, b"").fault == "two tokens are shown; show one"


def test_no_token_is_in_what_a_program_prints_of_it() -> None:
    seen = shown([bearer(f"Bearer {TOKEN}")], [], b"")
    assert seen.token == TOKEN
    assert TOKEN not in repr(seen)
    identity = Identity("bistro", "terminal", "Bar 1", digest(TOKEN))
    assert repr(digest(TOKEN)) not in repr(identity)


def test_every_reason_fits_into_a_close_frame() -> None:
    reasons = [auth.HOW_TO_SHOW, auth.IN_URL, auth.NOT_KNOWN]
    assert [reason for reason in reasons if len(reason.encode()) > REASON_BYTES] == []


# --- tokens


def test_tokens_are_random_and_their_digest_tells_nothing() -> None:
    made = {new_token() for _ in range(1000)}
    assert len(made) == 1000
    assert all(auth.TOKEN.fullmatch(token) for token in made)
    assert auth.TOKEN_BYTES * 8 >= 128
    assert len(digest(TOKEN)) == 32
    assert digest(TOKEN) != digest(OTHER)


@pytest.mark.parametrize("text", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f" {TOKEN}", f"{TOKEN}\n", "ÿ" * 51])
def test_what_no_relay_has_given_out_is_no_token(text: str) -> None:
    with pytest.raises(Unauthorized) as caught:
        digest(text)
    assert not text or text not in str(caught.value)


def test_a_url_may_name_the_tokens_restaurant_and_no_other() -> None:
    identity = Identity("bistro", "terminal", "Bar 1", b"")
    check_restaurant(identity, None)
    check_restaurant(identity, "bistro")
    with pytest.raises(Unauthorized, match="another restaurant"):
        check_restaurant(identity, "cafe")


# --- roles

# PROTOCOL.md, sections 5 and 6: display reads, terminal also tables and orders, manager everything.
MAY: dict[str, str] = {
    "CLIENT_CONNECTED": "display terminal manager",
    "CLIENT_DISCONNECTED": "display terminal manager",
    "HEARTBEAT": "display terminal manager",
    "SYNC_REQUEST": "display terminal manager",
    "USER_SYNC": "display terminal manager",
    "UPDATE_TABLE": "terminal manager",
    "UPDATE_ORDER": "terminal manager",
    "NEXT_ORDER_ID": "terminal manager",
    "MESSAGE": "terminal manager",
    "USER_LOGIN": "terminal manager",
    "USER_LOGOUT": "terminal manager",
    "SESSION_UPDATE": "terminal manager",
    "SESSION_SYNC": "terminal manager",
    "REFRESH_SESSIONS": "terminal manager",
    "UPDATE_MENU": "manager",
    "UPDATE_SETTINGS": "manager",
    "UPDATE_USERS": "manager",
    "FORCE_LOGOUT": "manager",
    "TERMINATE_SESSION": "manager",
}


def test_every_message_there_is_has_its_roles() -> None:
    assert set(MAY) == {*KINDS, *protocol.KINDS}
    assert {type_: {role for role in auth.ROLES if may(role, type_)} for type_ in MAY} == {
        type_: set(roles.split()) for type_, roles in MAY.items()
    }


@pytest.mark.parametrize("role", [auth.NOBODY, "", "owner", "Manager"])
def test_who_has_no_role_may_say_nothing(role: str) -> None:
    assert [type_ for type_ in MAY if may(role, type_)] == []


def test_a_message_that_is_yet_to_come_is_a_managers() -> None:
    assert [role for role in auth.ROLES if may(role, "DROP_EVERYTHING")] == ["manager"]


def test_a_refusal_says_which_role_it_needs() -> None:
    assert why_not("display", "UPDATE_TABLE") == "UPDATE_TABLE needs the role terminal or manager; this is a display"
    assert why_not("terminal", "UPDATE_MENU") == "UPDATE_MENU needs the role manager; this is a terminal"
    assert why_not(auth.NOBODY, "HEARTBEAT") == "this terminal is shut out"
