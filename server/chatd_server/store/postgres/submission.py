"""What was submitted, and what it is told when its record says that it was carried out before."""

from typing import Any

import asyncpg
import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command
from chatd_server.domain.ids import ChatId, Instant, OwnerId
from chatd_server.domain.transition import Transition
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.loading import Row, read_state
from chatd_server.store.shared import replay
from chatd_server.store.shared.codec import decode_config, decode_message, request_key


class Submission(msgspec.Struct):
    """A command or a chain, from its arrival to its commit."""

    chat_id: ChatId
    command: Command | Chain
    known: ChatState | None
    request: RequestKey | None
    owner_id: OwnerId | None
    key: bytes
    #: The transition that was sent to be written, and its time, until it is known to have failed.
    sent: tuple[Transition, Instant] | None = None
    #: What it commits of the whole family.
    commits: list[Applied] = []
    #: Whether this submission, and no earlier one with its id, changed the chat.
    changed: bool = False


def submitted(
    chat_id: ChatId,
    command: Command | Chain,
    request: RequestKey | None = None,
    owner_id: OwnerId | None = None,
    known: ChatState | None = None,
) -> Submission:
    """Return what arrives now."""
    key = replay.record_key(chat_id, command, request)
    return Submission(chat_id, command, known, request, owner_id, key)


async def answered(link: Any, request: RequestKey) -> Applied | None:
    """Return the stored answer of a request; None when it was not carried out."""
    asked = sql.LOAD_FOR(uuid="", key=request_key(request.key), now=None)
    row = await link.fetchrow(*asked)
    return None if row["command_key"] is None else await replayed(link, row, request)


def own(order: Submission, row: Row) -> Applied | None:
    """Return the result of this submission if the record is its own: its first try was committed,
    and only the answer was lost.
    """
    if order.sent is None:
        return None
    transition, at = order.sent
    if (row["command_sequence"], row["command_created_at"]) != (transition.state.head_sequence, at):
        return None
    order.changed = True
    return replay.applied_by(transition)


async def replayed(link: Any, row: Row, request: RequestKey | None) -> Applied:
    """Return what the recorded command was told; `row` is one of LOAD_FOR. Raises
    RequestIdReused.
    """
    chat = row["command_chat"]
    record = replay.Record._make(row[f"command_{name}"] for name in replay.Record._fields)
    stored = replay.recalled(record, request)
    if stored is None:  # its id is one of this chat's, whose row this is
        return replay.told_now(record, await read_state(link, row))
    config = message = None
    if not stored.has_config:
        config = decode_config(*await link.fetchrow(*sql.CONFIG(chat=chat)))
    if stored.position is not None:
        found = await link.fetchrow(*sql.MESSAGE_AT(chat=chat, position=stored.position))
        message = decode_message(*found)
    return replay.told_again(record, stored, config, message)


def check_is_record(error: asyncpg.UniqueViolationError) -> None:
    """Raise the error again unless it says that the command is recorded already."""
    if error.constraint_name != "commands_pk":
        raise error
