"""A long history on its way into the shared store: small pieces, and one transaction."""

import msgspec
import pytest

from chatd_server.domain.message import Text
from chatd_server.domain.refusal import ChatNotFound
from chatd_server.store.postgres.statements import INSERT_EVENTS
from chatd_server.store.postgres.store import PostgresStore
from chatd_server.store.postgres.writing import PIECE_ROWS
from tests.store.conftest import PostgresStores
from tests.store.desk import ANN, Desk, assert_gap_free
from tests.store.test_exam_forks import fork_of, history_of
from tests.store.weighing import weighed_link

MESSAGES = 5 * PIECE_ROWS
ROW_BYTES_MAX = 512
"""A small message with its ids, as it is stored."""


@pytest.fixture
def stores(replicas: PostgresStores) -> PostgresStores:
    """Take the shared store alone."""
    return replicas


async def test_many_small_messages_are_written_a_few_at_a_time(
    replicas: PostgresStores, store: PostgresStore, desk: Desk
) -> None:
    """No statement carries more than a piece of rows, and nobody sees a part of the chat."""
    chat_id = await desk.create("")
    (first,) = (await desk.send(chat_id, "x")).messages
    messages = [
        msgspec.structs.replace(first, position=number, parts=(Text(str(number)),))
        for number in range(1, MESSAGES + 1)
    ]
    command = fork_of(desk, chat_id, messages)
    other = Desk(await replicas.open(), replicas.clock)
    weighed = await weighed_link(store)

    async def look() -> None:
        with pytest.raises(ChatNotFound):
            await other.store.load(command.chat_id)

    weighed.before = (INSERT_EVENTS.text[:30], look)
    made = await store.apply(command.chat_id, command, owner_id=ANN)

    assert weighed.has_happened
    assert weighed.arguments <= PIECE_ROWS * ROW_BYTES_MAX
    assert [it.parts for it in await history_of(store, command.chat_id)] == [
        it.parts for it in messages
    ]
    log = await other.log(command.chat_id)
    assert list(made.events) == list(log)
    assert_gap_free(log, made.state)
