"""The rules of the chat itself: create, change its fields, archive, delete."""

import msgspec

from chatd_server.domain.chat import ChatConfig, ChatState, OpenCall, Status, StopReason
from chatd_server.domain.command import (
    Create,
    DeleteChat,
    History,
    SetArchived,
    SetTitle,
    TellOfChildren,
    UpdateChat,
)
from chatd_server.domain.event import ChatUpdated, CompactionFinished
from chatd_server.domain.ids import Instant, ToolCallId, TurnId
from chatd_server.domain.machine.calls import closing_results, opened_calls
from chatd_server.domain.machine.change import (
    COPIED_TURN,
    Change,
    begin_turn,
    end_turn,
    new_message,
)
from chatd_server.domain.machine.payloads import chat_updated
from chatd_server.domain.message import CompactionSource, ToolErrorKind
from chatd_server.domain.refusal import EtagMismatch
from chatd_server.domain.transition import Reply, Transition


def new_chat(command: Create, now: Instant) -> ChatState:
    """Return the state from which Create begins; revision 0 is never stored."""
    return ChatState(
        id=command.chat_id,
        owner_id=command.owner_id,
        root_id=command.root_id or command.chat_id,
        created_at=now,
        updated_at=now,
        parent_id=command.parent_id,
        parent_call_id=command.parent_call_id,
        config=command.config,
    )


def create(change: Change, command: Create) -> Transition:
    """The log begins with the fields that were given; the history of a fork follows."""
    _log_given(change, command)
    if command.history is not None:
        _copy(change, command.history)
    return change.seal()


def create_and_begin(change: Change, command: Create) -> Transition:
    """The first message begins its turn."""
    _log_given(change, command)
    return change.seal(Reply(message=begin_turn(change, (new_message(change, command),))))


def _log_given(change: Change, command: Create) -> None:
    given = chat_updated(ChatConfig(), command.config)
    if given != ChatUpdated():
        change.emit(given)


def _copy(change: Change, history: History) -> None:
    """Append the messages with new ids, positions and turns, and answer their open calls.

    What they cost was paid in the other chat.
    """
    change.forked_from = history.origin
    turns: dict[TurnId, TurnId] = {}
    open_calls: dict[ToolCallId, OpenCall] = {}
    context_from = change.boundary_position + history.context_from
    for index, message in enumerate(history.messages):
        if index == history.context_from:
            change.begin_context()
        turn_id = turns.setdefault(message.turn_id, TurnId(change.new_id(COPIED_TURN - len(turns))))
        change.add_message(
            message.role,
            message.parts,
            turn_id,
            created_at=message.created_at,
            model=message.model,
            response_id=message.response_id,
            finish_reason=message.finish_reason,
            usage=message.usage,
            visibility=message.visibility,
            compressed=message.compressed,
            summary_for=message.summary_for,
        )
        open_calls |= {it.id: it for it in opened_calls(message.parts)}
        for result in message.results:
            open_calls.pop(result.call_id, None)
    if open_calls:
        results = closing_results(open_calls.values(), ToolErrorKind.INTERRUPTED, change.now)
        change.add_results(results, turns[history.messages[-1].turn_id])
    if history.context_from == len(history.messages):
        change.begin_context()
    if context_from != change.boundary_position:
        change.emit(CompactionFinished(CompactionSource.CLEAR, boundary_position=context_from))
        change.boundary_position = context_from


def update(change: Change, command: UpdateChat) -> Transition:
    """Raises EtagMismatch when the fields were changed meanwhile."""
    old = change.state.config
    if command.etag_version is not None and command.etag_version != old.version:
        raise EtagMismatch("the chat was changed meanwhile; read it again")
    fields = {
        name: value
        for name in ("title", "model", "system_prompt", "labels", "tools", "action_timeout_seconds")
        if (value := getattr(command, name)) is not None and value != getattr(old, name)
    }
    if not fields:
        return change.unchanged()
    return _configured(change, msgspec.structs.replace(old, version=old.version + 1, **fields))


def set_title(change: Change, command: SetTitle) -> Transition:
    """A title that was changed meanwhile stays."""
    old = change.state.config
    is_replaced = command.replaces is None or command.replaces == old.title
    if command.title == old.title or not is_replaced:
        return change.unchanged()
    return _configured(
        change, msgspec.structs.replace(old, version=old.version + 1, title=command.title)
    )


def _configured(change: Change, config: ChatConfig) -> Transition:
    change.emit(chat_updated(change.state.config, config))
    change.config = config
    return change.seal()


def set_archived(change: Change, command: SetArchived) -> Transition:
    """Archive or unarchive; an error stays."""
    if command.archived == change.state.archived:
        return change.unchanged()
    change.archived = command.archived
    return change.seal()


def delete(change: Change, _command: DeleteChat) -> Transition:
    """An open turn ends as interrupted, the queue is emptied, no worker holds the chat."""
    state = change.state
    change.deleted = True
    if state.status is Status.ERROR:
        change.turn = None
        change.last_error = None
    elif state.turn is not None:
        end_turn(change, StopReason.INTERRUPTED)
    change.set_queue(())
    return change.seal()


def tell_of_children(change: Change, command: TellOfChildren) -> Transition:
    """A parent's turn goes on whatever its children do."""
    for news in command.news:
        change.emit(news)
    return change.seal()
