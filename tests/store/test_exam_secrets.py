"""The exam of a store's secrets: made once, the same for every server of the database."""

import asyncio

from chatd_server.ports.store import Store
from tests.store.conftest import PostgresStores, Stores


async def test_a_secret_is_made_when_first_asked_for_and_kept(stores: Stores, store: Store) -> None:
    """It is long, it has a name, and a restart finds it again."""
    made = await store.secret("a")
    assert len(made) == 32
    assert await store.secret("a") == made
    assert await store.secret("b") != made

    again = await stores.reopen(store)

    assert await again.secret("a") == made


async def test_servers_that_ask_at_the_same_moment_get_the_same(replicas: PostgresStores) -> None:
    """The first one writes it, and nobody replaces it."""
    servers = [await replicas.open() for _ in range(4)]
    found = await asyncio.gather(*(it.secret("a") for it in servers for _ in range(4)))
    assert len(set(found)) == 1
