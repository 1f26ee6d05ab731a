"""Signed tokens, good and hostile, and the files with the keys that sign them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from relay.auth import MOST_CHARACTERS
from relay.errors import REASON_BYTES, SettingsError, Unauthorized
from relay.jwts import LEEWAY, Keys, read

SECRET = "a secret of forty characters, without one".replace(" ", "-")
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
OTHER_ED_KEY = ed25519.Ed25519PrivateKey.generate()
AUDIENCE = "minipos-relay"
Claims = Mapping[str, object]


def claims(**more: object) -> dict[str, Any]:
    base = {"restaurant": "bistro", "role": "terminal", "aud": AUDIENCE, "exp": time.time() + 600, "sub": "Bar 1"}
    return {name: value for name, value in (base | more).items() if value is not None}


def pem(key: Any) -> bytes:
    public: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return public


def private(key: Any) -> bytes:
    written: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return written


def jwk(key: Any, **more: object) -> dict[str, Any]:
    if isinstance(key, str):
        found = {"kty": "oct", "k": base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")}
    else:
        kinds = {rsa.RSAPublicKey: "RS256", ec.EllipticCurvePublicKey: "ES256"}
        public = key.public_key()
        name = next((name for kind, name in kinds.items() if isinstance(public, kind)), "EdDSA")
        found = jwt.get_algorithm_by_name(name).to_jwk(public, as_dict=True)
        found.pop("key_ops", None)
    return found | more


def by_hand(header: Claims, payload: object, sign: Callable[[bytes], bytes]) -> str:
    """A token as no library would make it."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    written = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    begun = f"{part(json.dumps(header).encode())}.{part(written)}"
    return f"{begun}.{part(sign(begun.encode()))}"


def hs256(key: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.digest(key, text, hashlib.sha256)


def numbered(_: object) -> str:
    """What keys and tokens are called in a test's name: they are other ones in each process."""
    return "case"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def keys(file: Path, content: bytes | str) -> Keys:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return Keys(file, AUDIENCE)


def refused(found: Keys, token: str) -> str:
    with pytest.raises(Unauthorized) as caught:
        found.identify(token)
    sentence = str(caught.value)
    assert len(sentence.encode()) <= REASON_BYTES
    assert all(part not in sentence for part in token.split(".") if len(part) > 8)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a traceback could show more"
    return sentence


# --- good ones


@pytest.mark.parametrize(
    ("content", "key", "algorithm"),
    [
        (SECRET, SECRET, "HS256"),
        (f"{SECRET}\n", SECRET, "HS256"),
        (pem(RSA_KEY), RSA_KEY, "RS256"),
        (pem(ED_KEY), ED_KEY, "EdDSA"),
        (json.dumps({"keys": [jwk(ED_KEY)]}), ED_KEY, "EdDSA"),
        (json.dumps({"keys": [jwk(RSA_KEY, use="sig", alg="RS256")]}), RSA_KEY, "RS256"),
        (json.dumps(jwk(SECRET, kid="1")), SECRET, "HS256"),
    ],
    ids=numbered,
)
def test_a_token_signed_by_a_key_of_the_file_is_taken(file: Path, content: Any, key: Any, algorithm: str) -> None:
    found = keys(file, content)
    expires = time.time() + 600
    identity = found.identify(jwt.encode(claims(exp=expires), key, algorithm))
    assert (identity.slug, identity.role, identity.name) == ("bistro", "terminal", "Bar 1")
    assert identity.restaurant_id == 0
    assert identity.expires is not None
    assert abs(identity.expires - expires - LEEWAY) <= 1
    assert found.knows(identity.mark)


def test_of_several_keys_the_one_that_the_token_names_counts(file: Path) -> None:
    listed = [jwk(ED_KEY, kid="old"), jwk(OTHER_ED_KEY, kid="new"), jwk(SECRET, kid="shared")]
    found = keys(file, json.dumps({"keys": listed}))
    assert found.identify(jwt.encode(claims(), OTHER_ED_KEY, "EdDSA", {"kid": "new"})).slug == "bistro"
    assert found.identify(jwt.encode(claims(), ED_KEY, "EdDSA")).slug == "bistro", "without a kid each is tried"
    refused(found, jwt.encode(claims(), ED_KEY, "EdDSA", {"kid": "new"}))
    refused(found, jwt.encode(claims(), ED_KEY, "EdDSA", {"kid": "newest"}))


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(file: Path) -> None:
    found = keys(file, pem(ED_KEY))
    old, new = jwt.encode(claims(), ED_KEY, "EdDSA"), jwt.encode(claims(), OTHER_ED_KEY, "EdDSA")
    mark = found.identify(old).mark
    refused(found, new)
    file.write_text("{half a")
    assert found.identify(old).mark == mark
    file.write_text(json.dumps({"keys": [jwk(ED_KEY), jwk(OTHER_ED_KEY)]}))
    assert found.identify(new).mark != found.identify(old).mark == mark
    file.write_bytes(pem(OTHER_ED_KEY))
    assert not found.knows(mark)
    refused(found, old)


# --- hostile ones


def test_no_algorithm_is_none(file: Path) -> None:
    for content in (SECRET, pem(RSA_KEY), json.dumps({"keys": [jwk(ED_KEY), jwk(SECRET)]})):
        found = keys(file, content)
        for name in ("none", "None", "NONE", "", None, 0, ["HS256"], "HS512", "RS512", "ES256", "PS256"):
            for sign in (lambda _: b"", lambda _: b"x", hs256(SECRET.encode())):
                refused(found, by_hand({"typ": "JWT", "alg": name}, claims(), sign))
        refused(found, by_hand({"typ": "JWT"}, claims(), hs256(SECRET.encode())))


@pytest.mark.parametrize("key", [RSA_KEY, ED_KEY], ids=["RSA", "Ed25519"])
def test_a_public_key_is_no_secret(file: Path, key: Any) -> None:
    """Alg confusion: whoever has the public key would sign with it as if it were a secret."""
    public = key.public_key()
    written = [
        pem(key),
        pem(key).strip(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        json.dumps(jwk(key)).encode(),
    ]
    for content in (pem(key), json.dumps({"keys": [jwk(key)]}), json.dumps({"keys": [jwk(key), jwk(SECRET)]})):
        found = keys(file, content)
        for secret in written:
            refused(found, by_hand({"alg": "HS256", "typ": "JWT"}, claims(), hs256(secret)))


def test_a_secret_signs_for_nobodys_public_key(file: Path) -> None:
    found = keys(file, json.dumps({"keys": [jwk(SECRET, kid="1"), jwk(ED_KEY, kid="2")]}))
    refused(found, by_hand({"alg": "EdDSA", "kid": "1"}, claims(), hs256(SECRET.encode())))
    refused(found, by_hand({"alg": "HS256", "kid": "2"}, claims(), hs256(SECRET.encode())))


@pytest.mark.parametrize(
    "header",
    [
        {"jwk": jwk(OTHER_ED_KEY)},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"kid": "../../../../dev/null"},
        {"kid": "1' or '1'='1"},
        {"kid": 7},
        {"kid": None},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False, "crit": ["b64"]},
    ],
    ids=numbered,
)
def test_a_header_brings_no_key_along(file: Path, header: dict[str, object]) -> None:
    found = keys(file, pem(ED_KEY))
    refused(found, by_hand({"alg": "EdDSA", **header}, claims(), OTHER_ED_KEY.sign))


@pytest.mark.parametrize("header", [{"crit": ["exp"], "exp": 1}, {"crit": []}, {"b64": False, "crit": ["b64"]}])
def test_what_is_critical_and_not_known_is_refused_though_it_is_signed(file: Path, header: dict[str, object]) -> None:
    refused(keys(file, pem(ED_KEY)), by_hand({"alg": "EdDSA", **header}, claims(), ED_KEY.sign))


def test_a_token_that_was_changed_is_refused(file: Path) -> None:
    found = keys(file, pem(ED_KEY))
    head, body, signature = jwt.encode(claims(role="display"), ED_KEY, "EdDSA").split(".")
    raised = base64.urlsafe_b64encode(json.dumps(claims(role="manager")).encode()).decode().rstrip("=")
    for parts in (
        (head, raised, signature),
        (head, body, ""),
        (head, body, signature[:-8]),
        (head, body, signature[::-1]),
        (head, body),
        (head, body, signature, signature),
        ("", body, signature),
        (head, body + "=", signature),
        (head, body, signature + "\n"),
    ):
        refused(found, ".".join(parts))


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "ÿ.ÿ.ÿ",
        "🍜",
        "{}",
        "x" * (MOST_CHARACTERS + 1),
        "." * 4000,
        "eyJhbGciOiJIUzI1NiJ9..",
        "null",
    ],
    ids=numbered,
)
def test_what_is_no_token_is_refused(file: Path, text: str) -> None:
    refused(keys(file, SECRET), text)


@pytest.mark.parametrize("payload", [b"[]", b'"x"', b"null", b"{", b"", b"[" * 3000, b"\xff", b"{}"])
def test_a_signed_payload_that_holds_no_claims_is_refused(file: Path, payload: bytes) -> None:
    refused(keys(file, SECRET), by_hand({"alg": "HS256"}, payload, hs256(SECRET.encode())))


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": None},
        {"exp": 0},
        {"exp": -1},
        {"exp": True},
        {"exp": "soon"},
        {"exp": []},
        {"exp": math.inf},
        {"exp": math.nan},
        {"exp": 10**400},
        {"exp": "9999999999"},
        {"nbf": 9999999999},
        {"iat": 9999999999},
        {"nbf": "never"},
        {"aud": None},
        {"aud": "another service"},
        {"aud": ["another", "service"]},
        {"aud": {"minipos-relay": 1}},
        {"aud": AUDIENCE.upper()},
        {"role": None},
        {"role": "owner"},
        {"role": "nobody"},
        {"role": "Manager"},
        {"role": ["manager"]},
        {"role": {}},
        {"role": True},
        {"restaurant": None},
        {"restaurant": ""},
        {"restaurant": 1},
        {"restaurant": ["bistro"]},
    ],
    ids=numbered,
)
def test_claims_that_are_not_as_they_must_be_are_refused(file: Path, wrong: dict[str, object]) -> None:
    token = by_hand({"alg": "HS256"}, claims(**wrong), hs256(SECRET.encode()))
    refused(keys(file, SECRET), token)


def test_a_token_has_expired_when_the_clocks_allow_no_doubt(file: Path) -> None:
    found = keys(file, SECRET)
    found.identify(jwt.encode(claims(exp=time.time() - LEEWAY / 2), SECRET, "HS256"))
    sentence = refused(found, jwt.encode(claims(exp=time.time() - LEEWAY - 2), SECRET, "HS256"))
    assert sentence == "the token has expired"


@pytest.mark.parametrize("strange", [7, ["x"], None, "x" * 500, "a\nb"])
def test_a_subject_is_only_a_name(file: Path, strange: object) -> None:
    token = by_hand({"alg": "HS256"}, claims(sub=strange), hs256(SECRET.encode()))
    assert keys(file, SECRET).identify(token).name == (strange if isinstance(strange, str) else "")


# --- files


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"too short",
        b"a secret with spaces in it is rather a text",
        b"\xff" * 40,
        private(RSA_KEY),
        private(ED_KEY),
        pem(rsa.generate_private_key(65537, 1024)),
        pem(ec.generate_private_key(ec.SECP256R1())),
        pem(ed448.Ed448PrivateKey.generate()),
        pem(ED_KEY)[:60],
        # Everybody may have these: as a secret they would let in everybody.
        ED_KEY.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        base64.b64encode(RSA_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        base64.b64encode(ED_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)),
        b"{}",
        b'{"keys": []}',
        b'{"keys": {}}',
        b'{"keys": 7}',
        b'{"keys": [7]}',
        b'{"keys": [null]}',
        b'{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}',
        b'{"keys": [{"kty": "RSA", "n": "x", "e": "AQAB"}]}',
        b'{"keys": [{"kty": ["RSA"]}]}',
        json.dumps({"keys": [jwk(ED_KEY, use="enc")]}).encode(),
        json.dumps({"keys": [jwk(RSA_KEY, alg="RS512")]}).encode(),
        json.dumps({"keys": [jwk(SECRET, key_ops=["sign"])]}).encode(),
        json.dumps({"keys": [jwk(ec.generate_private_key(ec.SECP256R1()))]}).encode(),
        b'{"keys": ' + b"[" * 100_000,
    ],
    ids=numbered,
)
def test_a_file_without_a_key_to_use_is_a_fault_that_repeats_nothing(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="RELAY_JWT_KEY") as caught:
        read(file)
    assert len(str(caught.value)) < 250
    words = content.decode("latin-1").split()
    assert [word for word in words if len(word) > 12 and word in str(caught.value)] == []


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SettingsError, match="RELAY_JWT_KEY names cannot be read"):
            Keys(path, AUDIENCE)


def test_keys_for_other_purposes_may_stand_beside(file: Path) -> None:
    listed = [jwk(ec.generate_private_key(ec.SECP256R1())), {"kty": "new"}, jwk(RSA_KEY, use="enc"), jwk(ED_KEY)]
    file.write_text(json.dumps({"keys": listed}))
    assert [key.algorithm for key in read(file)] == ["EdDSA"]


def test_no_key_is_in_what_a_program_prints_of_it(file: Path) -> None:
    file.write_text(SECRET)
    assert SECRET not in repr(read(file))


def test_a_relay_that_takes_no_signed_tokens_imports_nothing_that_verifies_them() -> None:
    program = "import sys, relay.__main__; print({'jwt', 'relay.jwts'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"
