"""Rule 9: a family is archived as a whole or not at all."""

from collections.abc import Callable

import msgspec
import pytest

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import SetArchived
from chatd_server.domain.family import advance_family
from chatd_server.domain.ids import ChatId
from chatd_server.domain.refusal import WrongStatus
from tests.domain.situations import deleted, error, running, waiting
from tests.kit.by_hand import BEGIN, CHAT, ByHand

ARCHIVE = SetArchived(command_id="x", archived=True)


def child(situation: Callable[[], ByHand], name: str) -> ChatState:
    """Return a child of the chat that every situation is about."""
    state = situation().state
    return msgspec.structs.replace(state, id=ChatId(name), root_id=CHAT, parent_id=CHAT)


def test_a_family_is_archived_root_first_then_by_id() -> None:
    """One order for everybody who locks, so that two of them never wait for each other."""
    members = (child(error, "b"), child(waiting, "a"), child(deleted, "c"))
    done = advance_family(waiting().state, members, ARCHIVE, BEGIN)
    assert [it.state.id for it in done] == [CHAT, "a", "b"]
    assert all(it.state.archived for it in done)


def test_a_member_that_is_busy_refuses_for_all() -> None:
    """The refusal names the status of the one that stands in the way."""
    members = (child(waiting, "a"), child(running, "b"))
    with pytest.raises(WrongStatus) as refused:
        advance_family(waiting().state, members, ARCHIVE, BEGIN)
    assert refused.value.metadata == {"status": "RUNNING"}


def test_a_member_that_is_archived_already_is_no_obstacle() -> None:
    """Archiving twice is a success that writes only what is missing."""
    (root,) = advance_family(waiting().state, (), ARCHIVE, BEGIN)
    done = advance_family(root.state, (child(waiting, "a"),), ARCHIVE, BEGIN)
    assert [it.changed for it in done] == [False, True]
