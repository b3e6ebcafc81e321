"""What a command that was carried out before is told: the answer of then."""

from typing import Any

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Create
from chatd_server.domain.refusal import ChatNotFound, RequestIdReused
from chatd_server.domain.transition import Reply
from chatd_server.ports.store import Applied, RequestKey
from chatd_server.store.postgres import statements as sql
from chatd_server.store.postgres.loading import Row, read_state
from chatd_server.store.shared.codec import decode_config, decode_message
from chatd_server.store.shared.rows import decode_response


async def replay(link: Any, row: Row, request: RequestKey | None) -> Applied:
    """Return the stored answer; `row` is one of `statements.LOAD_FOR`. Raises RequestIdReused."""
    if request is not None and row["body_hash"] != request.body_hash:
        raise RequestIdReused(
            "this request id was used with another request: take a new id for a new request"
        )
    if row["response"] is None:  # it has an id of its own chat's, whose row this is
        return Applied(await read_state(link, row), Reply(), row["command_sequence"], replayed=True)
    chat = row["command_chat"]
    stored = decode_response(row["response"])
    state, reply = stored.state, stored.reply
    if not stored.has_config:
        config = decode_config(*await link.fetchrow(sql.CONFIG, chat))
        state = msgspec.structs.replace(state, config=config)
    if stored.position is not None:
        found = await link.fetchrow(sql.MESSAGE_AT, chat, stored.position)
        reply = msgspec.structs.replace(reply, message=decode_message(*found))
    return Applied(state, reply, row["command_sequence"], replayed=True)


def found_again(state: ChatState, command: Create) -> Applied:
    """Return the chat that a Create would make a second time; raises ChatNotFound for another's.

    A child's id derives from its call, so a spawn that is done again finds its child.
    """
    if state.owner_id != command.owner_id or state.parent_id != command.parent_id:
        raise ChatNotFound(command.chat_id)
    return Applied(state, Reply(), state.head_sequence, replayed=True)
