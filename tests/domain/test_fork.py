"""A chat that begins with the history of another one."""

import pytest

from chatd_server.domain.chat import ChatConfig, ForkedFrom, Status
from chatd_server.domain.command import Create, History
from chatd_server.domain.ids import ChatId, MessageId
from chatd_server.domain.message import Executor, Message, Text, ToolErrorKind, Usage
from tests.domain.invariants import fields_agree, history_is_valid
from tests.domain.situations import waiting
from tests.kit.by_hand import CHAT, OWNER, ByHand, call

SOURCE = ChatId("018bcfe5-6800-7000-8000-000000000002")


def fork(
    messages: list[Message], context_from: int = 0, config: ChatConfig | None = None
) -> ByHand:
    """Return the chat that begins with these messages."""
    chat = ByHand()
    last = messages[-1].id if messages else MessageId("")
    chat.do(
        Create(
            command_id=chat.command_id(),
            chat_id=CHAT,
            owner_id=OWNER,
            config=config or ChatConfig(title="fork"),
            history=History(ForkedFrom(SOURCE, last), tuple(messages), context_from),
        )
    )
    fields_agree(chat.state)
    history_is_valid(chat.state, chat.messages)
    return chat


def long() -> ByHand:
    """Return a chat of two turns, the second with tools of both sides, in the middle of it."""
    chat = waiting()
    chat.send("look")
    chat.acquire()
    chat.answer(call("s1"), call("c1", Executor.CLIENT), call("c2", Executor.CLIENT))
    chat.batch("s1")
    return chat


def test_a_fork_waits_with_the_same_words() -> None:
    """Roles, parts, times and costs are those of the source; nothing is owed or counted."""
    source = waiting()
    chat = fork(source.messages)
    assert chat.state.status is Status.WAITING
    assert [(it.role, it.parts, it.created_at, it.usage) for it in chat.messages] == [
        (it.role, it.parts, it.created_at, it.usage) for it in source.messages
    ]
    assert chat.state.usage_total == Usage()
    assert chat.state.turn is None
    assert chat.state.stop_reason is None
    assert chat.state.forked_from == ForkedFrom(SOURCE, source.last.id)


def test_a_fork_has_ids_positions_and_turns_of_its_own() -> None:
    """Messages of one turn stay together, and positions begin at one without a gap."""
    source = long()
    chat = fork(source.messages[2:])
    assert [it.position for it in chat.messages] == list(range(1, len(chat.messages) + 1))
    old, new = source.messages[2:], chat.messages
    assert not {it.id for it in new} & {it.id for it in old}
    assert len({it.turn_id for it in new}) == 1
    assert not {it.turn_id for it in new} & {it.turn_id for it in old}
    assert len({it.id for it in new} | {it.turn_id for it in new}) == len(new) + 1


@pytest.mark.parametrize("length", range(6))
def test_calls_without_a_result_are_answered_wherever_the_history_ends(length: int) -> None:
    """Each once, as interrupted, behind what was copied: every vendor takes the history."""
    source = long()
    chat = fork(source.messages[:length])
    copied = {it.call_id for message in source.messages[:length] for it in message.results}
    asked = {it.id for message in source.messages[:length] for it in message.calls}
    results = [it for message in chat.messages for it in message.results]
    assert {it.call_id for it in results} == asked
    assert len(results) == len(asked)
    for it in results:
        expected = None if it.call_id in copied else ToolErrorKind.INTERRUPTED
        assert it.error is expected


def test_a_fork_goes_on_as_any_chat() -> None:
    """The next message begins a turn behind the history."""
    chat = fork(waiting().messages)
    chat.send("go on")
    chat.acquire()
    chat.answer("gladly")
    chat.finish()
    assert chat.state.status is Status.WAITING
    assert [it.parts for it in chat.messages[-2:]] == [(Text("go on"),), (Text("gladly"),)]


@pytest.mark.parametrize("context_from", [0, 1, 2])
def test_the_context_begins_where_it_began(context_from: int) -> None:
    """At that message, or behind the last one."""
    chat = fork(waiting().messages, context_from)
    assert chat.state.boundary_position == context_from + 1


def test_an_empty_chat_has_an_empty_fork() -> None:
    """It says where it comes from, and that there was nothing."""
    chat = fork([])
    assert chat.state.forked_from == ForkedFrom(SOURCE, MessageId(""))
    assert not chat.messages
