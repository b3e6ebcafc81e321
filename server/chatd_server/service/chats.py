"""Chats: make one, read one, list those of the caller, change, fork and remove one."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, ForkedFrom, Status, TurnOptions
from chatd_server.domain.command import (
    Command,
    Create,
    DeleteChat,
    History,
    SetArchived,
    UpdateChat,
)
from chatd_server.domain.ids import (
    ChatId,
    MessageId,
    OwnerId,
    ToolCallId,
    child_uuid,
    new_uuid,
)
from chatd_server.domain.limits import FORK_BYTES_MAX, FORK_MESSAGES_MAX
from chatd_server.domain.message import Message, Part
from chatd_server.domain.refusal import InvalidRequest, MessageNotFound, Refused, Violation
from chatd_server.ports.clock import Clock
from chatd_server.ports.store import Applied, ChatPage, RequestKey, Store
from chatd_server.service.ancestors import check_parent
from chatd_server.service.ids import chat_id_of, command_id


class Chats:
    """Arguments were checked; every method refuses other owners."""

    def __init__(self, store: Store, clock: Clock, default_model: str) -> None:
        self._store = store
        self._clock = clock
        self._default_model = default_model

    async def create(
        self,
        owner_id: OwnerId,
        config: ChatConfig,
        *,
        parts: tuple[Part, ...] = (),
        options: TurnOptions | None = None,
        parent_id: str = "",
        parent_call_id: str = "",
        request: RequestKey | None = None,
    ) -> Applied:
        """Make a chat, or a child of one. The default model is stored in it, so that the chat keeps
        its model when the server's default changes.

        The child of a call is made once; it is found again whatever has become of its parent,
        unless it is deleted.
        """
        chat_id = ChatId(new_uuid(self._clock.now()))
        parent = None
        if parent_id:
            try:
                parent = await check_parent(self._store, owner_id, chat_id_of(parent_id))
            except Refused:
                # Carried out before, it is answered whatever has become of the parent.
                told = None if request is None else await self._store.answered(request)
                if told is None:
                    raise
                return told
            if parent_call_id:
                chat_id = child_uuid(parent, ToolCallId(parent_call_id))
        command = Create(
            command_id=command_id(self._clock, request),
            chat_id=chat_id,
            owner_id=owner_id,
            config=msgspec.structs.replace(config, model=config.model or self._default_model),
            parts=parts,
            options=options or TurnOptions(),
            parent_id=parent,
            parent_call_id=ToolCallId(parent_call_id) if parent_call_id else None,
            root_id=parent,
        )
        return await self._store.apply(chat_id, command, owner_id=owner_id, request=request)

    async def get(self, owner_id: OwnerId, chat_id: str) -> ChatState:
        return await self._store.load(chat_id_of(chat_id), owner_id)

    async def page(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None,
        include_archived: bool,
        labels: Mapping[str, str],
        statuses: Sequence[Status],
        parent_id: str,
    ) -> ChatPage:
        """Return root chats of the caller, or the children of one, newest first."""
        return await self._store.list_chats(
            owner_id,
            limit=limit,
            after_key=after_key,
            include_archived=include_archived,
            labels=labels or None,
            statuses=statuses,
            parent_id=ChatId(parent_id) if parent_id else None,
        )

    async def fork(
        self,
        owner_id: OwnerId,
        chat_id: str,
        *,
        message_id: str = "",
        title: str | None = None,
        labels: Mapping[str, str],
        request: RequestKey | None = None,
    ) -> Applied:
        """Make a chat with the history of another one, up to a message or to the newest one."""
        try:
            source = await self._store.load(chat_id_of(chat_id), owner_id)
            history = await self._history(source, message_id)
        except Refused:
            # Carried out before, it is answered whatever has become of the other chat.
            told = None if request is None else await self._store.answered(request)
            if told is None:
                raise
            return told
        config = msgspec.structs.replace(
            source.config,
            title=source.config.title if title is None else title,
            labels=dict(labels),
            version=1,
        )
        fork_id = ChatId(new_uuid(self._clock.now()))
        command = Create(
            command_id=command_id(self._clock, request),
            chat_id=fork_id,
            owner_id=owner_id,
            config=config,
            history=history,
        )
        return await self._store.apply(fork_id, command, owner_id=owner_id, request=request)

    async def _history(self, source: ChatState, last_id: str) -> History:
        """Return the messages as of a state of their chat, up to one of them.

        Raises MessageNotFound, and InvalidRequest when they are more than a fork may copy.
        """
        found: list[Message] = []
        size, more, is_whole = 0, True, not last_id
        while more and not (last_id and found and found[-1].id == last_id):
            after = found[-1].position if found else 0
            page, more = await self._store.messages_as_of(source, after_position=after)
            for message in page:
                found.append(message)
                size += len(msgspec.json.encode(message.parts))
                if message.id == last_id:
                    is_whole = not more and message is page[-1]
                    break
            if len(found) > FORK_MESSAGES_MAX or size > FORK_BYTES_MAX:
                raise InvalidRequest(_too_long())
        if last_id and not (found and found[-1].id == last_id):
            raise MessageNotFound(last_id)
        boundary = source.boundary_position
        context = (n for n, it in enumerate(found) if it.position >= boundary)
        # A context that begins behind the last message is lost with the messages behind that.
        context_from = next(context, len(found) if is_whole else 0)
        origin = ForkedFrom(source.id, found[-1].id if found else MessageId(""))
        return History(origin, tuple(found), context_from)

    async def update(
        self,
        owner_id: OwnerId,
        chat_id: str,
        changes: Mapping[str, Any],
        *,
        etag_version: int | None = None,
        request: RequestKey | None = None,
    ) -> Applied:
        """Change fields of the config, which `changes` names as UpdateChat does."""
        if changes.get("model") == "":
            changes = {**changes, "model": self._default_model}
        command = UpdateChat(
            command_id=command_id(self._clock, request), etag_version=etag_version, **changes
        )
        return await self._apply(owner_id, chat_id, command, request)

    async def set_archived(
        self,
        owner_id: OwnerId,
        chat_id: str,
        archived: bool,
        *,
        request: RequestKey | None = None,
    ) -> Applied:
        """Archive or unarchive, with all children or not at all; succeeds if it is so already."""
        command = SetArchived(command_id=command_id(self._clock, request), archived=archived)
        return await self._apply_family(owner_id, chat_id, command, request)

    async def delete(
        self, owner_id: OwnerId, chat_id: str, *, request: RequestKey | None = None
    ) -> Applied:
        """Delete the chat and its children: open turns end, and so do their streams."""
        command = DeleteChat(command_id=command_id(self._clock, request))
        return await self._apply_family(owner_id, chat_id, command, request)

    async def _apply_family(
        self,
        owner_id: OwnerId,
        chat_id: str,
        command: SetArchived | DeleteChat,
        request: RequestKey | None,
    ) -> Applied:
        return await self._store.apply_family(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )

    async def _apply(
        self, owner_id: OwnerId, chat_id: str, command: Command, request: RequestKey | None
    ) -> Applied:
        return await self._store.apply(
            chat_id_of(chat_id), command, owner_id=owner_id, request=request
        )


def _too_long() -> Violation:
    return Violation(
        "message_id",
        f"the history up to there has more than {FORK_MESSAGES_MAX} messages or {FORK_BYTES_MAX} "
        "bytes; fork at an earlier message",
    )
