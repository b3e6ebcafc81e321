"""Turns, the queue, and what a subscriber is told of them."""

from collections.abc import Callable

import pytest

from chatd_server.domain.chat import (
    ChatConfig,
    ClientTool,
    Status,
    StopReason,
    TurnOptions,
)
from chatd_server.domain.command import (
    BusyBehavior,
    ClearContext,
    Create,
    DeleteQueued,
    EditMessage,
    FinishInterruption,
    FinishTurn,
    Interrupt,
    PromoteQueued,
    Release,
    ReorderQueue,
    SendMessage,
)
from chatd_server.domain.event import (
    QUEUE_PREVIEW_CHARACTERS,
    ChatUpdated,
    HistoryTruncated,
    QueueChanged,
    StatusChanged,
)
from chatd_server.domain.ids import ChatId, MessageId, TurnId
from chatd_server.domain.limits import QUEUE_LENGTH_MAX
from chatd_server.domain.machine import advance
from chatd_server.domain.message import Text
from chatd_server.domain.refusal import (
    HistoryChanged,
    InvalidRequest,
    MessageNotFound,
    QueueFull,
)
from tests.domain.situations import (
    action,
    error,
    error_with_queue,
    interrupting,
    pending,
    queued,
    running,
    waiting,
)
from tests.kit.by_hand import BEGIN, CHAT, OWNER, ByHand, kinds, said, texts, told

OTHER = TurnId("another turn")


# --- creation ------------------------------------------------------------------------------


def test_a_chat_without_a_message_waits_and_says_so() -> None:
    """The log of every chat begins with an event, so that a watcher learns of it."""
    chat = ByHand()
    done = chat.create()
    assert (done.state.revision, done.state.head_sequence) == (1, 1)
    assert done.events[0].event == StatusChanged(Status.WAITING, TurnId(""))


def test_a_new_log_tells_the_fields_that_were_given() -> None:
    """Who reads the log from its beginning needs no other source."""
    chat = ByHand()
    tools = (ClientTool("edit"),)
    done = chat.create("hi", ChatConfig(title="t", labels={"a": "b"}, tools=tools))
    assert kinds(done.events) == ["ChatUpdated", "MessageCommitted", "StatusChanged"]
    assert done.events[0].event == ChatUpdated(title="t", labels={"a": "b"}, tools=("edit",))


def test_a_child_names_its_parent_and_its_root() -> None:
    """A chat of its own is its own root; a child carries both."""
    parent, root = ChatId("parent"), ChatId("root")
    child = advance(
        None,
        Create(
            command_id="x",
            chat_id=CHAT,
            owner_id=OWNER,
            config=ChatConfig(),
            parent_id=parent,
            root_id=root,
        ),
        BEGIN,
    )
    assert (child.state.parent_id, child.state.root_id) == (parent, root)
    assert pending().state.root_id == CHAT


def test_the_same_command_at_the_same_time_gives_the_same_transition() -> None:
    """Ids are derived and not drawn: a decision can be made twice."""
    command = SendMessage(command_id="x", parts=(Text("again"),))
    state = waiting().state
    assert advance(state, command, BEGIN) == advance(state, command, BEGIN)


# --- sending -------------------------------------------------------------------------------


def test_a_message_to_an_idle_chat_begins_a_turn_with_its_options() -> None:
    """The turn takes the options of its message, and begins at its position."""
    chat = waiting()
    options = TurnOptions(model="a/b", max_steps=3)
    done = chat.do(SendMessage(command_id="x", parts=(Text("go"),), options=options))
    assert done.reply.message == chat.last
    assert chat.turn.options == options
    assert chat.turn.first_position == chat.last.position
    assert chat.last.turn_id == chat.turn.id


def test_a_queued_message_keeps_id_time_and_options_when_its_turn_begins() -> None:
    """What the queue showed is what enters the history."""
    chat = running()
    sent = SendMessage(command_id="x", parts=(Text("next"),), options=TurnOptions(model="a/b"))
    placed = chat.do(sent).reply.queued
    assert placed is not None
    chat.do(
        FinishTurn(**chat.hold(), turn_id=chat.turn.id, stop_reason=StopReason.END_TURN), seconds=9
    )
    assert (chat.last.id, chat.last.created_at) == (placed.id, placed.created_at)
    assert chat.turn.options.model == "a/b"


def test_a_promotion_ends_the_old_turn_and_begins_the_new_one_for_its_followers() -> None:
    """Two status events: one for the followers of the old turn, one for those of the new."""
    chat = queued(running)()
    old, head = chat.turn.id, chat.state.head_sequence
    done = chat.finish()
    new = chat.turn.id
    assert kinds(done.events) == [
        "MessageCommitted",
        "QueueChanged",
        "StatusChanged",
        "StatusChanged",
    ]
    assert told(chat, head) == [
        (Status.PENDING, old, StopReason.END_TURN),
        (Status.PENDING, new, None),
    ]
    assert old != new


def test_the_last_turn_ends_with_one_status() -> None:
    """Nothing is queued: the chat waits, and remembers why the turn ended."""
    chat = running()
    old, head = chat.turn.id, chat.state.head_sequence
    chat.finish(StopReason.MAX_STEPS)
    assert told(chat, head) == [(Status.WAITING, old, StopReason.MAX_STEPS)]
    assert chat.state.stop_reason is StopReason.MAX_STEPS


def test_a_message_to_a_failed_chat_waits_after_its_queue() -> None:
    """Order is kept: the head of the queue begins, the new message is its tail."""
    chat = error_with_queue()
    done = chat.send("newest")
    assert (done.reply.message, texts(chat)) == (None, ["last", "newest"])
    assert done.reply.queued == chat.state.queue[-1]
    assert chat.last.parts == (Text("later"),)
    assert chat.state.last_error is None


def test_an_interrupting_message_waits_for_the_worker() -> None:
    """The worker saves the partial step first; the message is queued until then."""
    chat = running()
    done = chat.send("stop that", BusyBehavior.INTERRUPT)
    assert (done.reply.interrupted, texts(chat)) == (True, ["stop that"])
    assert kinds(done.events) == ["QueueChanged", "StatusChanged"]
    chat.do(FinishInterruption(**chat.hold()))
    assert (chat.last.parts, chat.state.status) == ((Text("stop that"),), Status.PENDING)


def test_an_interrupting_message_begins_at_once_when_nobody_works() -> None:
    """No worker has to be waited for."""
    chat = pending()
    old, head = chat.turn.id, chat.state.head_sequence
    done = chat.send("rather", BusyBehavior.INTERRUPT)
    assert done.reply.message == chat.last
    assert done.reply.interrupted
    assert told(chat, head) == [
        (Status.PENDING, old, StopReason.INTERRUPTED),
        (Status.PENDING, chat.turn.id, None),
    ]


def test_an_interrupting_message_keeps_the_order_of_the_queue() -> None:
    """It is appended; what was queued before it begins before it."""
    chat = queued(pending)()
    done = chat.send("newest", BusyBehavior.INTERRUPT)
    assert chat.last.parts == (Text("later"),)
    assert texts(chat) == ["last", "newest"]
    assert done.reply.queued == chat.state.queue[-1]


def test_a_full_queue_refuses_and_keeps_what_it_has() -> None:
    """The limit counts what would be queued afterwards, not what passes through."""
    chat = running()
    for n in range(QUEUE_LENGTH_MAX):
        chat.send(f"message {n}")
    for busy in (BusyBehavior.QUEUE, BusyBehavior.INTERRUPT):
        with pytest.raises(QueueFull, match="wait, or interrupt the turn"):
            chat.send("one more", busy)
    chat.do(Release(**chat.hold()))
    chat.send("replaces the turn", BusyBehavior.INTERRUPT)
    assert len(chat.state.queue) == QUEUE_LENGTH_MAX


def test_the_queue_event_shows_the_beginning_of_each_message() -> None:
    """A preview has at most 200 characters."""
    chat = running()
    done = chat.send("ä" * 300)
    (changed,) = said(done.events, QueueChanged)
    assert isinstance(changed, QueueChanged)
    assert changed.entries[0].preview == "ä" * QUEUE_PREVIEW_CHARACTERS


# --- rule 8 --------------------------------------------------------------------------------


@pytest.mark.parametrize("situation", [pending, running, interrupting, action])
def test_a_client_that_names_a_turn_cuts_no_other(situation: Callable[[], ByHand]) -> None:
    """Its turn is over already: success, nothing cut, the message is queued."""
    chat = situation()
    status, turn = chat.state.status, chat.turn
    done = chat.do(Interrupt(command_id="x", expected_turn_id=OTHER))
    assert (done.changed, done.reply.interrupted) == (False, False)
    done = chat.do(
        SendMessage(
            command_id="x",
            parts=(Text("next"),),
            busy=BusyBehavior.INTERRUPT,
            expected_turn_id=OTHER,
        )
    )
    assert (chat.state.status, chat.turn) == (status, turn)
    assert not done.reply.interrupted
    assert texts(chat) == ["next"]


@pytest.mark.parametrize("situation", [pending, running, interrupting, action])
def test_a_client_that_names_the_open_turn_cuts_it(situation: Callable[[], ByHand]) -> None:
    """Also while it is being cut: the answer is then the same, and nothing is written."""
    chat = situation()
    done = chat.do(Interrupt(command_id="x", expected_turn_id=chat.turn.id))
    assert done.reply.interrupted


@pytest.mark.parametrize("situation", [waiting, error])
def test_an_interrupt_with_nothing_to_cut_is_a_success(situation: Callable[[], ByHand]) -> None:
    """A client that presses stop too late gets no error."""
    done = situation().interrupt()
    assert (done.changed, done.reply.interrupted) == (False, False)


# --- edit ----------------------------------------------------------------------------------


def test_an_edit_whose_sender_missed_another_edit_is_refused() -> None:
    """Its position is that of a message which is gone; what was seen after the edit may be cut."""
    chat = waiting()
    seen = chat.state.head_sequence
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("one"),), seen_sequence=seen))
    with pytest.raises(HistoryChanged):
        chat.do(EditMessage(command_id="x", position=1, parts=(Text("two"),), seen_sequence=seen))
    chat.send("more")
    now = chat.state.head_sequence
    edit = EditMessage(
        command_id="x", position=chat.messages[0].position, parts=(Text("3"),), seen_sequence=now
    )
    chat.do(edit)
    assert [it.parts for it in chat.messages] == [(Text("3"),)]


# --- queue ---------------------------------------------------------------------------------


def test_reorder_names_exactly_the_queue() -> None:
    """A list that misses, adds or doubles one was made from an old queue."""
    chat = queued(running)()
    first, second = (it.id for it in chat.state.queue)
    for wrong in [(first,), (first, first), (first, second, MessageId("new"))]:
        with pytest.raises(InvalidRequest):
            chat.do(ReorderQueue(command_id="x", message_ids=wrong))
    chat.do(ReorderQueue(command_id="x", message_ids=(second, first)))
    assert texts(chat) == ["last", "later"]


def test_deleting_a_message_that_began_already_is_a_success() -> None:
    """It is not in the queue, which is what the caller wanted to be told."""
    done = running().do(DeleteQueued(command_id="x", message_id=MessageId("gone")))
    assert not done.changed


def test_a_promoted_message_goes_before_the_others() -> None:
    """The worker stops for it, and it begins next."""
    chat = queued(running)()
    promoted = chat.state.queue[1]
    done = chat.do(PromoteQueued(command_id="x", message_id=promoted.id))
    assert (done.reply.queued, done.reply.interrupted) == (promoted, True)
    assert texts(chat) == ["last", "later"]
    assert not chat.do(PromoteQueued(command_id="x", message_id=promoted.id)).changed
    chat.do(FinishInterruption(**chat.hold()))
    assert chat.last.id == promoted.id


def test_a_promoted_message_begins_at_once_when_nobody_works() -> None:
    """The open turn ends as interrupted; after an error no turn is open."""
    for situation, interrupted in [(queued(pending), True), (error_with_queue, False)]:
        chat = situation()
        promoted = chat.state.queue[1]
        done = chat.do(PromoteQueued(command_id="x", message_id=promoted.id))
        assert done.reply.message == chat.last
        assert (chat.last.id, done.reply.interrupted) == (promoted.id, interrupted)


# --- edit ----------------------------------------------------------------------------------


def test_an_edit_removes_everything_after_it_and_cuts_the_work() -> None:
    """History, queue, lease and calls go; the new message has a new position and a new turn."""
    chat = queued(running)()
    old, position = chat.turn.id, chat.last.position
    head = chat.state.head_sequence
    done = chat.do(EditMessage(command_id="x", position=position, parts=(Text("rather"),)))
    assert done.removed_from == position
    assert kinds(done.events) == [
        "HistoryTruncated",
        "MessageCommitted",
        "QueueChanged",
        "StatusChanged",
        "StatusChanged",
    ]
    assert done.events[0].event == HistoryTruncated(position)
    assert [it.parts for it in chat.messages] == [(Text("rather"),)]
    assert chat.last.position == position + 1, "positions are never used again"
    assert (chat.state.lease, chat.state.queue) == (None, ())
    assert told(chat, head)[0] == (Status.PENDING, old, StopReason.REPLACED)


def test_an_edit_of_an_idle_chat_ends_no_turn() -> None:
    """The turn that follows is the only one that is told of."""
    chat = waiting()
    head = chat.state.head_sequence
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("rather"),)))
    assert told(chat, head) == [(Status.PENDING, chat.turn.id, None)]


@pytest.mark.parametrize("position", [0, -1, 3, 99])
def test_an_edit_of_what_is_no_users_message_is_refused(position: int) -> None:
    """No user's message stands after the one that began the open turn."""
    chat = running()
    chat.answer("hello")
    with pytest.raises(MessageNotFound):
        chat.do(EditMessage(command_id="x", position=position, parts=(Text("no"),)))


def test_an_edit_before_a_boundary_undoes_the_boundary() -> None:
    """The summary is removed with the rest, so the context begins at the first message."""
    chat = waiting()
    chat.do(ClearContext(command_id="x"))
    boundary = chat.state.boundary_position
    chat.send("more")
    chat.do(EditMessage(command_id="x", position=boundary, parts=(Text("at the boundary"),)))
    assert chat.state.boundary_position == boundary
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("before it"),)))
    assert chat.state.boundary_position == 1
