"""Seals the passwords of the web app's users, so that a copy of the database does not tell them."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SEALED = "sealed:1:"  # what a sealed password begins with
KEY_BYTES = 64


class Vault:
    """Passwords under a secret; without one it leaves them as they are.

    AES-SIV (RFC 5297): the same password of the same user is sealed to the same text, so an unchanged user is no
    change. Restaurant and user are authenticated with it: a sealed password is of no use in another row.
    """

    def __init__(self, secret: str) -> None:
        self._cipher = AESSIV(_key(secret)) if secret else None

    def seal(self, password: str, restaurant_id: int, user_id: str) -> str:
        """The password as it is stored. Raises ValueError for one that would look sealed and is not."""
        if self._cipher is None:
            if password.startswith(SEALED):
                raise ValueError(f"a password cannot begin with {SEALED}")
            return password
        sealed = self._cipher.encrypt(password.encode(), _owner(restaurant_id, user_id))
        return SEALED + base64.b64encode(sealed).decode()

    def leaves_open(self, stored: str) -> bool:
        """Whether a stored password is readable although there is a secret to seal it under."""
        return self._cipher is not None and not stored.startswith(SEALED)

    def open(self, stored: str, restaurant_id: int, user_id: str) -> str:
        """The password as the app compares it. Raises ValueError where it was sealed under another secret."""
        if not stored.startswith(SEALED):
            return stored
        if self._cipher is None:
            raise ValueError("a password is sealed, and RELAY_SECRET is not set")
        try:
            sealed = base64.b64decode(stored.removeprefix(SEALED), validate=True)
            return self._cipher.decrypt(sealed, _owner(restaurant_id, user_id)).decode()
        except (InvalidTag, binascii.Error, ValueError):
            raise ValueError("a password was sealed under another RELAY_SECRET, or for another user") from None


def _key(secret: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"minipos staff passwords").derive(
        secret.encode()
    )


def _owner(restaurant_id: int, user_id: str) -> list[bytes]:
    return [str(restaurant_id).encode(), user_id.encode()]
