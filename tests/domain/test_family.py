"""Rule 9: a family is archived and deleted as a whole, and a parent's log tells of its children."""

from collections.abc import Callable

import msgspec
import pytest

from chatd_server.domain.chat import ChatConfig, ChatState, Status
from chatd_server.domain.command import Create, DeleteChat, SetArchived, SetTitle
from chatd_server.domain.event import ChatDeleted, StatusChanged, SubagentChanged
from chatd_server.domain.family import Step, advance_child, advance_family, news_of
from chatd_server.domain.ids import ChatId, ToolCallId, child_uuid, is_uuid, new_uuid
from chatd_server.domain.refusal import ChatArchived, ChatNotFound, WrongStatus
from tests.domain.situations import deleted, error, pending, running, waiting
from tests.kit.by_hand import BEGIN, CHAT, OWNER, ByHand

ARCHIVE = SetArchived(command_id="x", archived=True)
UNARCHIVE = SetArchived(command_id="y", archived=False)
DELETE = DeleteChat(command_id="z")


def child(situation: Callable[[], ByHand], name: str) -> ChatState:
    """Return a child of the chat that every situation is about."""
    state = situation().state
    return msgspec.structs.replace(state, id=ChatId(name), root_id=CHAT, parent_id=CHAT)


def states(steps: tuple[Step, ...]) -> list[ChatState]:
    """Return what the members are after it."""
    return [it.transition.state for it in steps]


def news(step: Step) -> list[SubagentChanged]:
    """Return what a step tells of children."""
    return [it.event for it in step.transition.events if isinstance(it.event, SubagentChanged)]


def test_a_family_is_archived_root_first_then_by_id() -> None:
    """One order for everybody who locks, so that two of them never wait for each other."""
    members = (child(error, "b"), child(waiting, "a"), child(deleted, "c"))
    done = advance_family(waiting().state, members, ARCHIVE, BEGIN)
    assert [it.id for it in states(done)] == [CHAT, "a", "b"]
    assert all(it.archived for it in states(done))
    assert done[0].transition.reply.chats == 3


def test_the_roots_log_tells_of_each_child_behind_its_own_change() -> None:
    """In the order of the children, numbered without a gap."""
    members = (child(error, "b"), child(waiting, "a"))
    root, *_ = advance_family(waiting().state, members, ARCHIVE, BEGIN)
    assert root.old is not None
    events = root.transition.events
    assert isinstance(events[0].event, StatusChanged)
    assert [(it.chat_id, it.status, it.archived) for it in news(root)] == [
        ("a", Status.WAITING, True),
        ("b", Status.ERROR, True),
    ]
    head = root.old.head_sequence
    assert [it.sequence for it in events] == [head + 1, head + 2, head + 3]
    assert root.transition.state.head_sequence == head + 3
    assert root.transition.state.archived


def test_a_member_that_is_busy_refuses_for_all() -> None:
    """The refusal names the one that stands in the way, and its status."""
    members = (child(waiting, "a"), child(running, "b"))
    with pytest.raises(WrongStatus, match="'b' is running; wait") as refused:
        advance_family(waiting().state, members, ARCHIVE, BEGIN)
    assert refused.value.metadata == {"status": "RUNNING", "chat_id": "b"}


def test_a_member_that_is_archived_already_is_no_obstacle() -> None:
    """Archiving twice is a success that writes only what is missing."""
    (root,) = states(advance_family(waiting().state, (), ARCHIVE, BEGIN))
    done = advance_family(root, (child(waiting, "a"),), ARCHIVE, BEGIN)
    assert [len(news(it)) for it in done] == [1, 0]
    assert done[0].transition.reply.chats == 1
    assert done[1].transition.changed


def test_deletion_takes_members_in_any_status_and_is_the_end_of_each_log() -> None:
    """Nothing follows chat_deleted, so the root's log does not tell of its children."""
    members = (child(running, "a"), child(pending, "b"))
    done = advance_family(running().state, members, DELETE, BEGIN)
    assert all(it.deleted for it in states(done))
    assert [type(it.transition.events[-1].event) for it in done] == [ChatDeleted] * 3
    assert done[0].transition.reply.chats == 3


def test_a_parent_is_told_when_a_child_is_made() -> None:
    """With its call, so that whoever shows the call can show the child."""
    command = Create(
        command_id="c",
        chat_id=ChatId("a"),
        owner_id=OWNER,
        config=ChatConfig(title="look"),
        parent_id=CHAT,
        parent_call_id=ToolCallId("call"),
        root_id=CHAT,
    )
    made, told = advance_child(running().state, None, command, BEGIN)
    assert made.transition.state.root_id == CHAT
    assert news(told) == [SubagentChanged(ChatId("a"), Status.WAITING, "look", ToolCallId("call"))]
    assert told.transition.state.status is Status.RUNNING


@pytest.mark.parametrize("command", [ARCHIVE, DELETE, SetTitle(command_id="t", title="new")])
def test_a_parent_is_told_of_title_archive_and_end_of_a_child(
    command: SetArchived | DeleteChat | SetTitle,
) -> None:
    """What a list of children shows."""
    _, told = advance_child(waiting().state, child(waiting, "a"), command, BEGIN)
    (seen,) = news(told)
    assert (seen.archived, seen.deleted, seen.title) == (
        command is ARCHIVE,
        command is DELETE,
        "new" if isinstance(command, SetTitle) else seen.title,
    )


def test_a_step_of_a_child_tells_its_parent_nothing() -> None:
    """Only where a child begins to wait: its tokens and steps never touch the parent's row."""
    old = child(pending, "a")
    now_running = msgspec.structs.replace(old, status=Status.RUNNING, revision=old.revision + 1)
    stepped = msgspec.structs.replace(now_running, revision=old.revision + 2)
    assert news_of(old, now_running) is None
    assert news_of(now_running, stepped) is None
    done = msgspec.structs.replace(stepped, status=Status.WAITING)
    assert news_of(stepped, done) is not None
    assert news_of(waiting().state, msgspec.structs.replace(waiting().state, archived=True)) is None


def test_a_child_is_not_unarchived_under_an_archived_parent() -> None:
    """The refusal names the parent."""
    members = (child(waiting, "a"),)
    root, only = states(advance_family(waiting().state, members, ARCHIVE, BEGIN))
    with pytest.raises(ChatArchived) as refused:
        advance_child(root, only, UNARCHIVE, BEGIN)
    assert refused.value.metadata == {"status": "WAITING", "chat_id": CHAT}
    with pytest.raises(ChatNotFound):
        advance_child(None, only, UNARCHIVE, BEGIN)


def test_the_id_of_a_child_is_that_of_its_call() -> None:
    """The same for the same call of the same chat, and a UUID like any other."""
    one, two = ChatId(new_uuid(BEGIN)), ChatId(new_uuid(BEGIN))
    call = ToolCallId("call")
    assert child_uuid(one, call) == child_uuid(one, call)
    assert len({child_uuid(it, ToolCallId(n)) for it in (one, two) for n in "abc"}) == 6
    assert is_uuid(child_uuid(one, call))
    assert child_uuid(one, call)[14] == "7"
