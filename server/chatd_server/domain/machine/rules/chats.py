"""The rules of the chat itself: create, change its fields, archive, delete."""

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, Status, StopReason
from chatd_server.domain.command import Create, DeleteChat, SetArchived, SetTitle, UpdateChat
from chatd_server.domain.event import ChatUpdated
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine.change import (
    NO_TURN,
    Change,
    end_turn,
    new_message,
    start_turn,
    unchanged,
)
from chatd_server.domain.machine.payloads import chat_updated
from chatd_server.domain.refusal import EtagMismatch
from chatd_server.domain.transition import Reply, Transition


def create(command: Create, now: Instant) -> Transition:
    """Make the chat. Its log begins with what a reader cannot know otherwise: the fields that
    were given, the first message, the status.
    """
    change = Change(
        ChatState(
            id=command.chat_id,
            owner_id=command.owner_id,
            root_id=command.root_id or command.chat_id,
            created_at=now,
            updated_at=now,
            parent_id=command.parent_id,
            parent_call_id=command.parent_call_id,
            config=command.config,
        ),
        now,
    )
    given = chat_updated(ChatConfig(), command.config)
    if given != ChatUpdated():
        change.emit(given)
    if not command.parts:
        change.say_status(Status.WAITING, NO_TURN)
        return change.seal()
    message = start_turn(change, (new_message(change, command),))
    return change.seal(Reply(message=message))


def update(state: ChatState, command: UpdateChat, now: Instant) -> Transition:
    """Change fields. Raises EtagMismatch when they were changed meanwhile."""
    old = state.config
    if command.etag_version is not None and command.etag_version != old.version:
        raise EtagMismatch("the chat was changed meanwhile; read it again")
    fields = {
        name: value
        for name in ("title", "model", "system_prompt", "labels", "tools", "action_timeout_seconds")
        if (value := getattr(command, name)) is not None and value != getattr(old, name)
    }
    if not fields:
        return unchanged(state)
    return _configured(state, msgspec.structs.replace(old, version=old.version + 1, **fields), now)


def set_title(state: ChatState, command: SetTitle, now: Instant) -> Transition:
    """Write a title."""
    old = state.config
    if command.title == old.title:
        return unchanged(state)
    new = msgspec.structs.replace(old, version=old.version + 1, title=command.title)
    return _configured(state, new, now)


def _configured(state: ChatState, config: ChatConfig, now: Instant) -> Transition:
    change = Change(state, now)
    change.emit(chat_updated(state.config, config))
    change.set(config=config)
    return change.seal()


def only_labels(command: UpdateChat) -> bool:
    """Say whether an update touches labels and nothing else."""
    return msgspec.structs.replace(command, labels=None, etag_version=None) == UpdateChat(
        command_id=command.command_id
    )


def set_archived(state: ChatState, command: SetArchived, now: Instant) -> Transition:
    """Archive or unarchive; the status stays, and so does the error."""
    if command.archived == state.archived:
        return unchanged(state)
    change = Change(state, now)
    change.set(archived=command.archived)
    turn_id = NO_TURN if state.turn is None else state.turn.id
    change.say_status(state.status, turn_id, state.stop_reason)
    return change.seal()


def delete(state: ChatState, command: DeleteChat, now: Instant) -> Transition:
    """Delete softly: an open turn ends as interrupted, nothing is queued, no worker owns it."""
    _ = command
    change = Change(state, now)
    change.set(deleted=True)
    if state.status is Status.ERROR:
        change.set_queue(())
        change.set(status=Status.WAITING, turn=None, last_error=None)
        change.say_status(Status.WAITING, change.turn.id, state.stop_reason)
    elif state.turn is not None:
        end_turn(change, (), StopReason.INTERRUPTED)
    return change.seal()
