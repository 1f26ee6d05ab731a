"""Signed tokens: the keys of a file, and what a token that one of them signed says (RFC 7519, RFC 8725).

Which algorithm a key is for follows from the key. What a token's header says of it only chooses among the keys.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from .auth import MOST_CHARACTERS, ROLES, Identity
from .errors import SettingsError, Unauthorized

LEEWAY = 10.0  # seconds by which the clock of who signs may differ
SECRET_BYTES = 32  # at least (RFC 7518, section 3.2)
SECRET = re.compile(rb"[!-~]{32,}")  # of a file that holds nothing else
RSA_BITS = 2048  # at least (RFC 7518, section 3.3)
MOST_SECONDS = 2**53  # since 1970
MOST_BYTES = 1024 * 1024  # of a file of keys
ALLOWED = "a secret of 32 characters or more without spaces, a public key in PEM, or a JWKS; Ed25519 or RSA"

Public = Ed25519PublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """A key with the one algorithm that it is for; `mark` is its fingerprint, `id` its `kid` in a JWKS."""

    algorithm: str
    key: bytes | Public = field(repr=False)
    mark: bytes = field(repr=False)
    id: str | None = None

    def fits(self, header: Mapping[str, Any]) -> bool:
        """Whether it may have signed a token with this header."""
        return header.get("alg") == self.algorithm and (
            None in (self.id, header.get("kid")) or header["kid"] == self.id
        )


class Keys:
    """The keys in a file, read anew when the file is another one. Raises SettingsError where it has none to use."""

    def __init__(self, path: Path, audience: str) -> None:
        self._path = path
        self._audience = audience
        self._seen = self._look()
        self._keys = read(path)

    @property
    def current(self) -> tuple[Key, ...]:
        """The keys as they are in the file now; while it cannot be read, as they were."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            with suppress(SettingsError):  # it is being written; one that stays wrong is told of at the next start
                self._keys = read(self._path)
        return self._keys

    def knows(self, mark: bytes) -> bool:
        """Whether the key of a token is still among them."""
        return any(key.mark == mark for key in self.current)

    def identify(self, token: str) -> Identity:
        """Whom a token stands for. Raises Unauthorized, with a sentence that does not hold any of it."""
        if len(token) > MOST_CHARACTERS or not token.isascii():
            raise Unauthorized("this is no signed token (JWT)")
        key, claims = self._verified(token)
        slug, role, name, expires = (claims.get(claim) for claim in ("restaurant", "role", "sub", "exp"))
        if not isinstance(slug, str) or not slug:
            raise Unauthorized("the token's claim restaurant must be the restaurant's slug")
        if role not in ROLES:
            raise Unauthorized(f"the token's claim role must be one of {', '.join(ROLES)}")
        if isinstance(expires, bool) or not isinstance(expires, (int, float)) or not 0 < expires < MOST_SECONDS:
            raise Unauthorized("the token's claim exp must be a number of seconds")
        return Identity(slug, role, name if isinstance(name, str) else "", key.mark, expires=expires + LEEWAY)

    def _verified(self, token: str) -> tuple[Key, Mapping[str, Any]]:
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError):
            raise Unauthorized("this is no signed token (JWT)") from None
        for key in self.current:
            if not key.fits(header):
                continue
            try:
                return key, jwt.decode(
                    token,
                    key.key,
                    algorithms=[key.algorithm],
                    audience=self._audience,
                    leeway=LEEWAY,
                    options={"require": ["exp", "aud"], "verify_sub": False, "verify_jti": False},
                )
            except jwt.InvalidSignatureError:
                continue  # of several keys without an id, another may be the one
            except jwt.ExpiredSignatureError:
                raise Unauthorized("the token has expired") from None
            except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError):
                raise Unauthorized("the token needs the claims exp, and aud with RELAY_JWT_AUDIENCE") from None
            except (jwt.PyJWTError, ValueError, OverflowError, TypeError):
                raise Unauthorized("the token's claims are not as they must be") from None
        raise Unauthorized("no key of this relay has signed the token with its algorithm")

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino


def read(path: Path) -> tuple[Key, ...]:
    """The keys in a file. Raises SettingsError, which does not repeat what is in it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _fault(f"cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise _fault("is too large for a file of keys")
    if content.lstrip().startswith(b"{"):
        return _of_jwks(content)
    if b"-----BEGIN" in content:
        return (_of_pem(content),)
    secret = content.strip()
    # Everybody may have a public key: taken for a secret, it would let in everybody.
    if not SECRET.fullmatch(secret) or _is_public(secret):
        raise _fault(f"holds no key; allowed: {ALLOWED}")
    return (_secret(secret, None),)


def _is_public(secret: bytes) -> bool:
    try:
        load_der_public_key(base64.b64decode(secret, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def _of_pem(content: bytes) -> Key:
    if b"PRIVATE KEY" in content:
        raise _fault("holds a private key; give the relay the public one")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise _fault(f"holds no public key in PEM; allowed: {ALLOWED}") from None
    if not isinstance(key, (Ed25519PublicKey, RSAPublicKey)) or not _is_long_enough(key):
        raise _fault(f"holds a key that is not taken; allowed: {ALLOWED}, with {RSA_BITS} bits or more")
    return _public(key, None)


def _of_jwks(content: bytes) -> tuple[Key, ...]:
    try:
        found = json.loads(content)
        keys = tuple(_usable(found.get("keys", [found])))
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise _fault(f"holds no JWKS; allowed: {ALLOWED}") from None
    if not keys:
        raise _fault(f"is a JWKS without a key to verify with; allowed: {ALLOWED}, with {RSA_BITS} bits or more")
    return keys


def _usable(entries: list[dict[str, Any]]) -> Iterator[Key]:
    """The keys of a JWKS that can be used here; those for other algorithms or purposes are no fault."""
    for entry in entries:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            continue
        algorithm = {"oct": "HS256", "OKP": "EdDSA", "RSA": "RS256"}.get(entry.get("kty", ""))
        if algorithm is None or entry.get("alg", algorithm) != algorithm:
            continue
        try:
            key = jwt.PyJWK(entry, algorithm=algorithm).key
        except jwt.PyJWTError:
            continue
        if isinstance(key, bytes) and len(key) >= SECRET_BYTES:
            yield _secret(key, entry.get("kid"))
        elif isinstance(key, (Ed25519PublicKey, RSAPublicKey)) and _is_long_enough(key):
            yield _public(key, entry.get("kid"))


def _is_long_enough(key: Public) -> bool:
    return not isinstance(key, RSAPublicKey) or key.key_size >= RSA_BITS


def _secret(secret: bytes, id: str | None) -> Key:
    return Key("HS256", secret, hashlib.sha256(b"secret " + secret).digest(), id)


def _public(key: Public, id: str | None) -> Key:
    written = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    algorithm = "RS256" if isinstance(key, RSAPublicKey) else "EdDSA"
    return Key(algorithm, key, hashlib.sha256(written).digest(), id)


def _fault(what: str) -> SettingsError:
    return SettingsError([f"the file that RELAY_JWT_KEY names {what}"])
