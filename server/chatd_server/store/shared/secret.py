"""Secrets of a database: random bytes that all of its servers share."""

import secrets

SECRET_BYTES = 32
"""As long as the output of the hash that it keys (HMAC-SHA256)."""


def new_secret() -> bytes:
    """Return a new random secret."""
    return secrets.token_bytes(SECRET_BYTES)
