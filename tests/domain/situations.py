"""Every situation that a command can meet, each reached by commands alone."""

from collections.abc import Callable

from chatd_server.domain.chat import ChatConfig
from chatd_server.domain.command import Acquire, DeleteChat, Rescue, SetArchived
from chatd_server.domain.message import Executor
from tests.kit.by_hand import LEASE_SECONDS, ByHand, call

Situation = Callable[[], ByHand]


def none() -> ByHand:
    """The chat does not exist."""
    return ByHand()


def waiting() -> ByHand:
    """One turn is over."""
    chat = running()
    chat.answer("hello")
    chat.finish()
    return chat


def pending() -> ByHand:
    """A first message waits for a worker."""
    chat = ByHand()
    chat.create("hi", ChatConfig(title="old"))
    return chat


def running() -> ByHand:
    """A worker holds it."""
    chat = pending()
    chat.acquire()
    return chat


def running_with(*executors: Executor) -> ByHand:
    """Return a running chat whose answer asked for calls s1, s2, ... of these executors."""
    chat = running()
    chat.answer(*(call(f"s{n}", it) for n, it in enumerate(executors, 1)))
    return chat


def interrupting() -> ByHand:
    """A worker holds it and was asked to stop."""
    chat = running()
    chat.interrupt()
    return chat


def action() -> ByHand:
    """The client owes two results."""
    chat = running()
    chat.answer(call("c1", Executor.CLIENT), call("c2", Executor.CLIENT))
    chat.require_action()
    return chat


def error() -> ByHand:
    """The turn failed."""
    chat = running()
    chat.answer("half")
    chat.fail()
    return chat


def queued(situation: Situation) -> Situation:
    """Two messages are queued."""

    def build() -> ByHand:
        chat = situation()
        chat.send("later")
        chat.send("last")
        return chat

    return build


def error_with_queue() -> ByHand:
    """The turn failed while two messages were queued."""
    chat = queued(running)()
    chat.answer("half")
    chat.fail()
    return chat


def expired(situation: Situation) -> Situation:
    """The lease has expired, and nobody has noticed."""

    def build() -> ByHand:
        chat = situation()
        chat.now += round((LEASE_SECONDS + 1) * 1_000_000)
        return chat

    return build


def rescued_interrupting() -> ByHand:
    """It has to be stopped, and no worker holds it."""
    chat = expired(interrupting)()
    chat.do(Rescue(**chat.hold()))
    return chat


def late_action() -> ByHand:
    """The client's deadline has passed, and nobody has noticed."""
    chat = action()
    assert chat.state.action is not None
    chat.now = chat.state.action.deadline
    return chat


def archived(situation: Situation) -> Situation:
    """It is archived."""

    def build() -> ByHand:
        chat = situation()
        chat.do(SetArchived(command_id=chat.command_id(), archived=True))
        return chat

    return build


def deleted() -> ByHand:
    """It is deleted."""
    chat = waiting()
    chat.do(DeleteChat(command_id=chat.command_id()))
    return chat


def taken_over(chat: ByHand) -> None:
    """Let the lease expire, and another worker take the chat."""
    chat.now += round((LEASE_SECONDS + 1) * 1_000_000)
    chat.do(Rescue(**chat.hold()))
    taken = {**chat.hold(), "worker_id": "worker-2"}
    chat.do(Acquire(**taken, lease_seconds=LEASE_SECONDS))


#: Name in the head of the table -> how it comes about.
SITUATIONS: dict[str, Situation] = {
    "N": none,
    "W": waiting,
    "Wa": archived(waiting),
    "P": pending,
    "Pq": queued(pending),
    "R": running,
    "Rq": queued(running),
    "R!": expired(running),
    "I": interrupting,
    "Iq": queued(interrupting),
    "I!": expired(interrupting),
    "I-": rescued_interrupting,
    "A": action,
    "Aq": queued(action),
    "A!": late_action,
    "E": error,
    "Eq": error_with_queue,
    "Ea": archived(error),
    "Eqa": archived(error_with_queue),
    "D": deleted,
}
