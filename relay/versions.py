"""Which versions of PostgreSQL lose notifications."""

from __future__ import annotations

# The first minor version of each branch in which LISTEN, and reading what was notified, no longer fail with "could not
# access status of transaction" once VACUUM has truncated the commit log (PostgreSQL commits 8eeb4a0f7c, 797e9ea6e5).
MENDED = {15: 16, 16: 12, 17: 8, 18: 2}


def complaint(server_version: int) -> str | None:
    """What to say of a server with this number (`server_version_num`); None where it is sound."""
    major, minor = divmod(server_version, 10_000)
    mended = MENDED.get(major, 0)
    if minor >= mended:
        return None
    return (
        f"PostgreSQL {major}.{minor} can fail to LISTEN (`could not access status of transaction`); "
        f"upgrade to {major}.{mended} or later"
    )
