"""What a worker begins when it takes a chat."""

import msgspec
import pytest

from chatd_server.domain.acquisition import acquisition, owes_model_call
from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import Status, TurnOptions
from chatd_server.domain.command import Acquire, Release
from tests.kit.by_hand import LEASE_SECONDS, WORKER, ByHand, call


def pending() -> ByHand:
    """Return a chat with a first message."""
    chat = ByHand()
    chat.create("hello")
    return chat


def release(chat: ByHand) -> Release:
    """Return the command that gives the chat back."""
    return Release(**chat.hold())


def test_a_new_turn_begins_with_its_model_call() -> None:
    """The lease and the attempt are one order."""
    chat = pending()
    order = acquisition(chat.state, WORKER, LEASE_SECONDS, chat.now)
    done = chat.do(order)
    assert isinstance(order, Chain)
    assert done.state.status is Status.RUNNING
    assert chat.turn.attempt is not None
    assert chat.turn.attempt.base_sequence == chat.state.head_sequence


def test_the_same_acquisition_begins_the_same_attempt() -> None:
    """It is pure: decided again, it says the same; and each has an attempt of its own."""
    chat = pending()
    order = acquisition(chat.state, WORKER, LEASE_SECONDS, chat.now)
    assert order == acquisition(chat.state, WORKER, LEASE_SECONDS, chat.now)
    chat.do(order)
    first = chat.turn.attempt
    chat.do(release(chat))
    chat.do(acquisition(chat.state, WORKER, LEASE_SECONDS, chat.now))
    assert first is not None
    assert chat.turn.attempt is not None
    assert first.id != chat.turn.attempt.id


def test_open_calls_are_no_model_call() -> None:
    """Ours are run first; the client's are asked for."""
    chat = pending()
    chat.acquire()
    chat.answer(call("a"))
    chat.do(release(chat))
    assert isinstance(acquisition(chat.state, WORKER, LEASE_SECONDS, chat.now), Acquire)


def test_results_are_followed_by_a_model_call() -> None:
    """Also when the client gave them."""
    chat = pending()
    chat.acquire()
    chat.answer(call("a"))
    chat.batch("a")
    chat.do(release(chat))
    assert owes_model_call(chat.state, chat.now)


@pytest.mark.parametrize(
    "turn",
    [
        {"stop_after": True},
        {"compaction_requested": True},
        {"steps": 2, "options": TurnOptions(max_steps=2)},
        {"next_attempt_at": 1 << 60},
    ],
    ids=["a tool has ended the turn", "a compaction", "all steps", "before its retry"],
)
def test_what_is_no_model_call_for_another_reason(turn: dict[str, object]) -> None:
    """Each of them is looked at."""
    state = pending().state
    assert owes_model_call(state, 1)
    assert state.turn is not None
    changed = msgspec.structs.replace(state.turn, **turn)
    assert not owes_model_call(msgspec.structs.replace(state, turn=changed), 1)
