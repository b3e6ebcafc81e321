"""The first key of a home: made at the first start, and read by the command line."""

import os
import secrets
from pathlib import Path
from socket import gethostname

from chatd_server.config.load import BadConfig
from chatd_server.observe import Observer, spans
from chatd_server.service.keys import KEY_PREFIX, Keys, RootKey, new_key


def root_key(path: Path) -> str:
    """Return the root key, making it at the first start; only its owner can read the file.

    Raises BadConfig when the file holds something else.
    """
    if path.exists():
        return _key_in(path)
    key = new_key()
    # Written to another name and linked into place: two first starts agree on one key, and no
    # reader sees half a key.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(key + "\n")
        os.link(draft, path)
    except FileExistsError:
        return _key_in(path)
    finally:
        draft.unlink()
    return key


async def registered(path: Path, keys: Keys, observer: Observer) -> RootKey:
    """Register the root key of a home; note that it is new, or that it was revoked."""
    root = await keys.ensure_root(root_key(path), root_key_name(path))
    if root.is_new:
        observer.note(spans.RootKeyRegistered(key=root.record.id, name=root.record.name))
    if root.is_revoked:
        observer.note(spans.RootKeyRevoked(key=root.record.id, advice=revoked_advice(path)))
    return root


def root_key_name(path: Path) -> str:
    """Return the name of a root key in the list of keys: its host and its home.

    Servers that share a database have one root key for each home.
    """
    name = f"root of {gethostname()}:{path.parent.absolute()}"
    return "".join(it if it.isprintable() else "?" for it in name)


def revoked_advice(path: Path) -> str:
    """Return what to do when the root key of a home was revoked.

    It is not replaced automatically, because a person revoked it on purpose.
    """
    return (
        f"Commands that use {path} are refused. To get a new root key, remove that file and start "
        "the server of this home again"
    )


def _key_in(path: Path) -> str:
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if not key.startswith(KEY_PREFIX):
        raise BadConfig(
            f"{path} does not hold a chatd API key: remove it, and the next start makes one"
        )
    return key
