"""What only the shared store can do to a family: lose a connection in the middle."""

from typing import Any

import asyncpg
import msgspec
import pytest

from chatd_server.domain.chat import Status
from chatd_server.domain.command import SetArchived, SetTitle
from chatd_server.domain.event import SubagentChanged
from chatd_server.domain.ids import ChatId
from chatd_server.store.postgres.store import PostgresStore
from tests.store.conftest import PostgresStores
from tests.store.desk import ANN, Desk, assert_gap_free
from tests.store.outages import LosesCommits
from tests.store.test_exam_families import born


class CutBetween(LosesCommits):
    """A connection that is cut in its next transaction, after the first of its writes."""

    def transaction(self) -> Any:
        """Begin one as ever."""
        return self._link.transaction()

    async def fetchval(self, statement: str, *arguments: object) -> object:
        """Write once."""
        value = await self._link.fetchval(statement, *arguments)
        if "INTO commands" in statement:
            self._link.terminate()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle")
        return value


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


async def wrapped(store: PostgresStore, wrap: Any) -> Any:
    """Let the next connection that writes be this one."""
    link = await store.writers.take()
    made = wrap(link)
    store.writers.give(made)
    return made


async def titles_told(desk: Desk, root: ChatId) -> list[str]:
    """Return the titles that the log of a chat tells of children; it has no gap."""
    log = await desk.log(root)
    assert_gap_free(log, await desk.store.load(root))
    return [it.event.title for it in log if isinstance(it.event, SubagentChanged)]


@pytest.mark.parametrize("wrap", [CutBetween, LosesCommits])
async def test_a_parent_is_told_once_when_the_connection_is_lost(
    replicas: PostgresStores, store: PostgresStore, desk: Desk, wrap: Any
) -> None:
    """Between the two rows nothing is committed; after the commit it is found, and told of."""
    root = await desk.create("")
    child = await born(desk, root)
    cut = await wrapped(store, wrap)
    replicas.heard.commits.clear()

    done = await store.apply(child, SetTitle(command_id="t", title="new"))

    assert not done.replayed
    assert cut.is_closed()
    assert await titles_told(desk, root) == ["", "new"]
    assert [it.state.id for it in replicas.heard.commits] == [child, root]
    assert_gap_free(await desk.log(child), await store.load(child))


@pytest.mark.parametrize("wrap", [CutBetween, LosesCommits])
async def test_a_family_is_archived_once_when_the_connection_is_lost(
    replicas: PostgresStores, store: PostgresStore, desk: Desk, wrap: Any
) -> None:
    """All of it or nothing, and every listener learns of it."""
    root = await desk.create("")
    children = [await born(desk, root) for _ in range(3)]
    cut = await wrapped(store, wrap)
    replicas.heard.commits.clear()

    done = await store.apply_family(root, SetArchived(command_id="a", archived=True), owner_id=ANN)

    assert cut.is_closed()
    assert done.reply.chats == 4
    for one in (root, *children):
        state = await store.load(one)
        assert (state.archived, state.status) == (True, Status.WAITING)
        assert_gap_free(await desk.log(one), state)
    assert sorted(it.state.id for it in replicas.heard.commits) == sorted([root, *children])
    assert msgspec.structs.replace(done.state, queue=()) == await store.load(root)
