"""The test of the test: the enumeration finds defects that are planted into the hub.

The first two are real ones, found from outside in streams that all tests had passed.
"""

from collections.abc import Callable
from typing import Any

import pytest

from chatd_server.hub import decide
from chatd_server.hub.attempts import Attempts
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.hub import Hub
from chatd_server.hub.overlay import Overlay
from chatd_server.hub.responses import NewestPiece
from chatd_server.hub.stream import ReaderStream
from chatd_server.hub.tail import Tail
from tests.hub.explorer import explore
from tests.hub.histories import HISTORIES

Plant = Callable[[pytest.MonkeyPatch], None]


def nothing(*_: Any, **__: Any) -> None:
    """Replace a necessary action with none."""


def a_state_says_nothing_of_attempts(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that holds a message does not stop the pieces of its attempt."""
    patch.setattr(Attempts, "read", nothing)


def an_old_object_takes_the_new_one_along(patch: pytest.MonkeyPatch) -> None:
    """A worker that abandons an attempt drops any object stored under its chat's id."""

    def _void(self: LiveChat, overlay: Overlay) -> None:
        if self.attempts.void(overlay):
            self.wake()
        self._look_idle()

    patch.setattr(LiveChat, "void_attempt", _void)
    patch.setattr(Hub, "_forget", lambda hub, chat: hub._chats.pop(chat.chat_id, None))


def a_status_does_not_end_later_attempts(patch: pytest.MonkeyPatch) -> None:
    """An attempt that is shown after the log closed it stays open."""
    learn = Attempts._learn

    def _learn(self: Attempts, sequence: int, alive: Any) -> None:
        if alive:
            learn(self, sequence, alive)

    patch.setattr(Attempts, "_learn", _learn)


def a_hint_during_a_read_is_dropped(patch: pytest.MonkeyPatch) -> None:
    """The current read has already passed that point."""
    hinted = LiveChat.hinted

    def _hinted(self: LiveChat, revision: int) -> None:
        if not self.is_refreshing:
            hinted(self, revision)

    patch.setattr(LiveChat, "hinted", _hinted)


def a_commit_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    """Events are added, but waiting readers keep waiting."""

    def _add(self: LiveChat, events: Any) -> None:
        for event in events:
            self.attempts.observe(event)
            self.tail.add(event)

    patch.setattr(LiveChat, "_add", _add)


def a_reader_that_is_cut_takes_the_read_along(patch: pytest.MonkeyPatch) -> None:
    """It was reading for all readers; then none of them reads."""
    ends = LiveChat.refresh_ends

    def _ends(self: LiveChat, *, is_deleted: bool = False, **_: bool) -> None:
        ends(self, is_deleted=is_deleted)

    patch.setattr(LiveChat, "refresh_ends", _ends)


def nothing_is_owed_before_a_message(patch: pytest.MonkeyPatch) -> None:
    """The message comes before the rest of its pieces."""
    patch.setattr(decide, "_owed_before", nothing)


def nothing_is_ever_void(patch: pytest.MonkeyPatch) -> None:
    """Pieces of a void attempt stay with the client."""
    patch.setattr(decide, "_is_void", lambda *_: False)


def a_gap_is_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """An event of another server is skipped."""

    def add(self: Tail, event: Any) -> bool:
        if event.sequence > self.head:
            self.head = event.sequence
            self._events.append(event)
        return True

    patch.setattr(Tail, "add", add)
    patch.setattr(LiveChat, "mark_stale", nothing)


def a_piece_is_shared_with_all(patch: pytest.MonkeyPatch) -> None:
    """Every reader gets the newest piece, whatever its position."""
    patch.setattr(NewestPiece, "moved", lambda piece, *_: piece.after)


def a_resume_begins_again(patch: pytest.MonkeyPatch) -> None:
    """The offset of a cursor is forgotten."""
    patch.setattr(Overlay, "floor", lambda *_: 0)


def the_next_attempt_does_not_void_the_last(patch: pytest.MonkeyPatch) -> None:
    """It exists together with the attempt that was open."""

    def _open(self: Attempts, attempt_id: Any, base_sequence: int) -> Overlay:
        self.current = Overlay(attempt_id, base_sequence)
        return self.current

    patch.setattr(Attempts, "open", _open)
    patch.setattr(Attempts, "void", lambda *_: False)


def a_heartbeat_does_not_look(patch: pytest.MonkeyPatch) -> None:
    """What a lost hint would have announced is never found."""

    async def _heartbeat(self: ReaderStream) -> bytes:
        self.reader.is_due = False
        codec = self._broadcast.codec
        return codec.heartbeat(self.reader.chat.head, self.reader.cursor)

    patch.setattr(ReaderStream, "_heartbeat", _heartbeat)


def a_read_state_moves_the_head_back(patch: pytest.MonkeyPatch) -> None:
    """A new reader makes the hub forget what other readers know."""
    read = LiveChat.read

    def _read(self: LiveChat, state: Any) -> None:
        read(self, state)
        self.tail.head = state.head_sequence

    patch.setattr(LiveChat, "read", _read)


DEFECTS: dict[Plant, str] = {
    a_state_says_nothing_of_attempts: "an_answer_is_committed_and_another_attempt_follows",
    an_old_object_takes_the_new_one_along: "a_turn_without_content_is_interrupted",
    a_status_does_not_end_later_attempts: "an_edit_overtakes_the_beginning_of_an_attempt",
    a_hint_during_a_read_is_dropped: "the_turn_runs_on_another_server",
    a_commit_wakes_nobody: "three_readers_and_one_event",
    a_reader_that_is_cut_takes_the_read_along: "a_reader_that_reads_for_all_is_cut",
    nothing_is_owed_before_a_message: "a_reader_comes_back_inside_an_attempt",
    nothing_is_ever_void: "a_turn_fails_with_content",
    a_gap_is_not_noticed: "another_server_writes_in_between",
    a_piece_is_shared_with_all: "two_readers_share_what_is_read",
    a_resume_begins_again: "a_reader_comes_back_inside_an_attempt",
    the_next_attempt_does_not_void_the_last: "a_vendor_begins_its_answer_again",
    a_heartbeat_does_not_look: "hints_of_another_server_are_lost",
    a_read_state_moves_the_head_back: "two_readers_share_what_is_read",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("plant", DEFECTS, ids=lambda plant: plant.__name__)
def test_a_planted_defect_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some order of a small history shows it."""
    plant(monkeypatch)
    with pytest.raises(AssertionError) as found:
        explore(HISTORIES[DEFECTS[plant]], states_max=20_000)
    assert found.value.__notes__[0].startswith("in this order: ")
