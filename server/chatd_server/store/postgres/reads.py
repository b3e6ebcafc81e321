"""Reads. Each function is one statement, or several that agree.

Pages and contexts come in one answer, which the driver decodes row by row as it arrives; the
contents of the rows are decoded a piece at a time.
"""

from collections.abc import Sequence
from typing import Any

from chatd_server.domain.chat import ChatState
from chatd_server.domain.ids import ChatId, Instant, MessageId, OwnerId
from chatd_server.domain.limits import PAGE_BYTES_MAX
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import ChatNotFound, MessageNotFound
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import ChatPage, EventPage
from chatd_server.ports.watch import Place, WatchPage
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.loading import Row, is_whole, read_state
from chatd_server.store.postgres.pieces import decoded
from chatd_server.store.postgres.sweeps import Swept
from chatd_server.store.shared import pages, watching
from chatd_server.store.shared.codec import decode_message, page_weight
from chatd_server.store.shared.open_calls import without_answered
from chatd_server.store.shared.ownership import readable
from chatd_server.store.shared.rows import (
    STATE_WIDTH,
    ChatRow,
    event_of,
    event_weight,
    state_of,
)
from chatd_server.store.shared.secret import new_secret

SNAPSHOT_PAGE_MAX = 500
"""Messages of one page of a snapshot, however small they are."""


async def load(link: Any, chat_id: ChatId, owner_id: OwnerId | None) -> ChatState:
    """Return the state, queue contents and journal included; raises ChatNotFound."""
    row = await _row(link, chat_id, owner_id)
    if is_whole(row):
        return await read_state(link, row)
    async with link.transaction(isolation="repeatable_read", readonly=True):
        return await read_state(link, await _row(link, chat_id, owner_id))


async def _row(link: Any, chat_id: ChatId, owner_id: OwnerId | None) -> Row:
    return readable(await link.fetchrow(*sql.LOAD(uuid=chat_id)), chat_id, owner_id)


async def events(
    link: Any, clock: Clock, chat_id: ChatId, after: int, limit: int, bytes_max: int
) -> EventPage:
    """Return a page of the log: at least one event if there is one, and about `bytes_max`."""
    row_id, oldest, head = await _heads(link, chat_id)
    pages.check_cursor(after, oldest, head)
    rows = await link.fetch(*sql.EVENTS(chat=row_id, after=after, limit=limit, bytes_max=bytes_max))
    page, _ = pages.first_page(rows, event_weight, bytes_max)
    found = tuple(await decoded(page, event_of, event_weight, clock))
    # A chore may have dropped the first ones between the two statements.
    if found and found[0].sequence != after + 1:
        _, oldest, head = await _heads(link, chat_id)
        raise pages.expired(after, oldest, head)
    return EventPage(found, oldest, max(head, found[-1].sequence if found else 0))


async def watch_head(link: Any) -> Place:
    """Return the place before the first open transaction."""
    return watching.after_commit(await link.fetchval(*sql.FIRST_OPEN()) - 1)


async def watched(link: Any, owner_id: OwnerId, after: Place, limit: int) -> WatchPage:
    wanted = sql.WATCHED(owner_id=owner_id, limit=limit + 1, **after._asdict())
    rows = await link.fetch(*wanted)
    first_open, held_back = rows[0][:2]
    found = [tuple(row)[2:] for row in rows if row[2] is not None]
    return watching.page_of(found, limit, max(first_open - 1, after.txid), held_back=held_back)


async def messages(
    link: Any, clock: Clock, chat_id: ChatId, after_position: int, limit: int, bytes_max: int
) -> tuple[list[Message], bool]:
    row_id = (await _heads(link, chat_id))[0]
    rows = await link.fetch(
        *sql.MESSAGES(chat=row_id, after=after_position, limit=limit + 1, bytes_max=bytes_max)
    )
    return await _page(rows, limit, bytes_max, clock)


async def messages_as_of(
    link: Any, clock: Clock, state: ChatState, after_position: int, bytes_max: int
) -> tuple[list[Message], bool]:
    """Return a page of the messages that stood at the revision of a state.

    Messages are immutable and their removal has a revision, so pages that are read one after
    another show one moment.
    """
    row_id = (await _heads(link, state.id))[0]
    rows = await link.fetch(
        *sql.MESSAGES_AS_OF(
            chat=row_id,
            after=after_position,
            before=state.next_position,
            revision=state.revision,
            limit=SNAPSHOT_PAGE_MAX + 1,
            bytes_max=bytes_max,
        )
    )
    return await _page(rows, SNAPSHOT_PAGE_MAX, bytes_max, clock)


async def contexts(link: Any, clock: Clock, chats: Sequence[Swept]) -> dict[int, list[Message]]:
    """Return by row id the messages that each model's context begins with, as of its state."""
    found: dict[int, list[Message]] = {chat.row_id: [] for chat in chats}
    rows = await link.fetch(
        *sql.CONTEXTS(
            ids=[chat.row_id for chat in chats],
            first_positions=[chat.state.boundary_position for chat in chats],
            next_positions=[chat.state.next_position for chat in chats],
            revisions=[chat.state.revision for chat in chats],
        )
    )
    messages = await decoded(rows, lambda row: decode_message(*row[1:]), _message_weight, clock)
    for row, message in zip(rows, messages, strict=True):
        found[row[0]].append(message)
    return found


async def message(link: Any, chat_id: ChatId, message_id: MessageId) -> Message:
    row_id = (await _heads(link, chat_id))[0]
    row = await link.fetchrow(*sql.MESSAGE_BY_ID(chat=row_id, uuid=message_id))
    if row is None:
        raise MessageNotFound(message_id)
    return decode_message(*row)


async def list_chats(
    link: Any, clock: Clock, owner_id: OwnerId, limit: int, wanted: pages.ChatFilter
) -> ChatPage:
    asked = {
        "owner_id": owner_id,
        "below": wanted.below,
        "include_archived": wanted.include_archived,
        "statuses": wanted.wanted_statuses,
        "labels": wanted.wanted_labels,
        "limit": limit + 1,
        "bytes_max": PAGE_BYTES_MAX,
    }
    if wanted.parent_id is None:
        rows = await link.fetch(*sql.OWNED(**asked))
    else:
        rows = await link.fetch(*sql.CHILDREN(parent_id=wanted.parent_id, **asked))
    page = rows[:limit]
    chats = await decoded(page, _without_sides, _chat_weight, clock)
    return ChatPage(tuple(chats), pages.chat_key(page[-1]["id"]) if _more_follow(page) else None)


async def list_actions(
    link: Any,
    clock: Clock,
    owner_id: OwnerId,
    limit: int,
    after_key: str | None,
    chat_id: ChatId | None,
) -> ChatPage:
    """Return an owner's chats that wait for the client, first deadline first."""
    due_at, row_id = pages.after_action(after_key)
    rows = await link.fetch(
        *sql.ACTIONS(
            owner_id=owner_id,
            due_at=due_at,
            id=row_id,
            uuid=chat_id,
            limit=limit + 1,
            bytes_max=PAGE_BYTES_MAX,
        )
    )
    page = rows[:limit]
    chats = await decoded(page, _asking, _chat_weight, clock)
    if not _more_follow(page):
        return ChatPage(tuple(chats), None)
    return ChatPage(tuple(chats), pages.action_key(page[-1]["due_at"], page[-1]["id"]))


def _without_sides(row: Row) -> ChatState:
    return state_of(ChatRow._make(row[:STATE_WIDTH]), None, {})


def _asking(row: Row) -> ChatState:
    return without_answered(_without_sides(row), row["answered"])


def _chat_weight(row: Row) -> int:
    return len(row["state"]) + len(row["config"])


def _more_follow(page: Sequence[Row]) -> bool:
    return bool(page) and len(page) < page[0]["total"]


async def next_due(link: Any, now: Instant | None) -> Instant | None:
    """Return when the earliest retry after now, the earliest deadline or the end of a lease is
    due.
    """
    due: Instant | None = await link.fetchval(*sql.NEXT_DUE(now=now))
    return due


async def secret(link: Any, name: str) -> bytes:
    """Return a secret; the first call makes it."""
    found: bytes | None = await link.fetchval(*sql.FIND_SECRET(name=name))
    if found is None:
        await link.execute(*sql.INSERT_SECRET(name=name, value=new_secret()))
        found = await link.fetchval(*sql.FIND_SECRET(name=name))
    assert found is not None
    return found


async def _heads(link: Any, chat_id: ChatId) -> tuple[int, int, int]:
    row = await link.fetchrow(*sql.HEADS(uuid=chat_id))
    if row is None:
        raise ChatNotFound(chat_id)
    row_id, oldest, head = row
    return row_id, oldest, head


async def _page(
    rows: Sequence[Row], limit: int, bytes_max: int, clock: Clock
) -> tuple[list[Message], bool]:
    page, _ = pages.first_page(rows[:limit], _message_weight, bytes_max)
    messages = await decoded(page, lambda row: decode_message(*row[:2]), _message_weight, clock)
    return messages, _more_follow(rows[: len(page)])


def _message_weight(row: Row) -> int:
    return page_weight(row["content"])
