"""Small histories of one chat. Each is a scene whose actors are played in every order."""

from collections.abc import Callable
from typing import Any

from chatd_server.domain.chat import Status
from chatd_server.domain.command import (
    DeleteChat,
    EditMessage,
    Interrupt,
    SendMessage,
)
from chatd_server.domain.event import Cursor
from chatd_server.domain.live import Follow, Until
from chatd_server.domain.message import Text
from tests.hub.model import CHAT
from tests.hub.run import Run, fenced, title
from tests.hub.scene import Actor, Scene

SETTLED = Follow(until=Until.SETTLED)
HISTORIES: dict[str, Callable[[], Scene]] = {}


def history(play: Callable[[], Scene]) -> Callable[[], Scene]:
    """Register a history."""
    HISTORIES[play.__name__] = play
    return play


def comes_back(scene: Scene, run: Run, *, deltas: bool = True, **settings: Any) -> None:
    """Add a reader that holds the first three bytes of the open attempt."""
    cursor = Cursor(scene.store.head, run.attempt_id, 3)
    reader = scene.reader(Follow(cursor, deltas=deltas), **settings)
    reader.witness.holds(run.attempt_id, run.text[:3])


def is_level(scene: Scene, *, deltas: bool = True, **settings: Any) -> None:
    """Add a reader that has received every event so far."""
    scene.reader(Follow(Cursor(scene.store.head), deltas=deltas), **settings)


# --- what clients do ------------------------------------------------------------------------------


def interrupts(scene: Scene, server: int = 0) -> Actor:
    """Interrupt the open turn."""
    yield lambda: scene.store.state.status in {Status.RUNNING, Status.PENDING}
    yield from scene.commit(Interrupt(command_id=scene.store.command_id()), server)


def edits(scene: Scene, server: int = 0) -> Actor:
    """Replace the first message."""
    edit = EditMessage(command_id=scene.store.command_id(), position=1, parts=(Text("else"),))
    yield from scene.commit(edit, server)


def sends(scene: Scene, server: int = 0) -> Actor:
    """Send a message, which is queued while a turn is open."""
    send = SendMessage(command_id=scene.store.command_id(), parts=(Text("and?"),))
    yield from scene.commit(send, server)


def renames(scene: Scene, server: int = 0) -> Actor:
    """Give the chat a title: one event, in every status."""
    yield from scene.commit(title(scene.store), server)


def deletes(scene: Scene, server: int = 0) -> Actor:
    """Delete the chat."""
    yield from scene.commit(DeleteChat(command_id=scene.store.command_id()), server)


def watches(scene: Scene) -> Actor:
    """Wait for the log in ListEvents, for a limited time."""
    with scene.servers[0].hub.watch(CHAT):
        yield None


def prunes(scene: Scene) -> Actor:
    """Drop all events so far, by retention."""
    scene.store.prune()
    yield None


# --- one reader comes while a turn goes on --------------------------------------------------------


@history
def an_answer_is_committed_and_another_attempt_follows() -> Scene:
    """The snapshot may contain the message whose pieces are still shown here."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.answers("it")
        yield from run.begin()
        yield from run.answers("goes")
        yield from run.finish()

    scene.actor("worker", work())
    scene.reader(SETTLED)
    return scene


@history
def a_turn_without_content_is_interrupted() -> Scene:
    """All readers learn it when the attempt ends without a message."""
    scene = Scene()
    run = Run(scene).acquired().begun()
    scene.actor("worker", run.is_interrupted())
    scene.actor("client", interrupts(scene))
    scene.reader()
    return scene


@history
def a_turn_fails_without_content() -> Scene:
    """The same with a failure."""
    scene = Scene()
    run = Run(scene).acquired().begun()
    scene.actor("worker", run.fail())
    is_level(scene)
    scene.readers_come()
    scene.reader(SETTLED)
    return scene


@history
def a_turn_fails_with_content() -> Scene:
    """The pieces that were shown are reset."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.fail())
    scene.reader(beats=1)
    return scene


@history
def a_partial_answer_is_saved() -> Scene:
    """An interrupt commits what was shown."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.is_interrupted())
    scene.actor("client", interrupts(scene))
    scene.reader()
    return scene


@history
def an_attempt_is_retried() -> Scene:
    """A void attempt is reset before the next one is shown."""
    scene = Scene()
    run = Run(scene).acquired().begun("no ")

    def work() -> Actor:
        yield from run.retry()
        yield from run.begin()
        yield from run.answers("yes")

    scene.actor("worker", work())
    scene.reader()
    return scene


@history
def a_vendor_begins_its_answer_again() -> Scene:
    """An attempt is replaced without an event in the log."""
    scene = Scene()
    run = Run(scene).acquired().begun("no ")

    def work() -> Actor:
        run.abandon()
        yield None
        yield from run.begin()
        yield from run.answers("yes")

    scene.actor("worker", work())
    scene.reader()
    return scene


@history
def tools_run_between_two_answers() -> Scene:
    """A batch of tools is an attempt too."""
    scene = Scene()
    run = Run(scene).acquired().begun()

    def work() -> Actor:
        yield from run.calls("look")
        yield from run.runs_tool()
        yield from run.begin()
        yield from run.answers("seen")
        yield from run.finish()

    scene.actor("worker", work())
    scene.reader(SETTLED)
    return scene


@history
def the_queue_begins_the_next_turn() -> Scene:
    """A turn ends and another begins in one transition."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.answers()
        yield from run.finish()

    scene.actor("worker", work())
    scene.actor("client", sends(scene))
    scene.reader(SETTLED)
    return scene


# --- a reader comes back --------------------------------------------------------------------------


@history
def a_reader_comes_back_inside_an_attempt() -> Scene:
    """Exactly the missing text follows, whatever happens meanwhile."""
    scene = Scene()
    run = Run(scene).acquired().begun("so it ")

    def work() -> Actor:
        yield from run.answers("goes")
        yield from run.finish()

    scene.actor("worker", work())
    comes_back(scene, run, beats=1)
    return scene


@history
def a_context_is_compacted() -> Scene:
    """The summary is shown like an answer, and a message without an attempt follows it."""
    scene = Scene()
    run = Run(scene).acquired()

    def work() -> Actor:
        yield from run.begin_compaction()
        yield from run.summarises("in ", "short")
        yield from run.finish()

    scene.actor("worker", work())
    scene.reader(SETTLED)
    return scene


@history
def a_compaction_fails_and_the_turn_goes_on() -> Scene:
    """Its event closes the attempt; nothing of it comes after the pieces of the answer."""
    scene = Scene()
    run = Run(scene).acquired()

    def work() -> Actor:
        yield from run.begin_compaction()
        yield from run.fails_to_summarise()
        yield from run.begin()
        yield from run.answers("yes")

    scene.actor("worker", work())
    scene.reader()
    return scene


@history
def a_compaction_on_another_server() -> Scene:
    """A reader there gets the pieces with the message, rebuilt from it."""
    scene = Scene(servers=2)
    run = Run(scene).acquired()

    def work() -> Actor:
        yield from run.begin_compaction()
        yield from run.summarises("in short")

    scene.actor("worker", work())
    is_level(scene, server=1)
    return scene


@history
def a_reader_comes_back_inside_an_attempt_that_is_void() -> Scene:
    """The pieces that it holds are reset."""
    scene = Scene()
    run = Run(scene).acquired().begun("so it ")

    def work() -> Actor:
        yield from run.retry()
        yield from run.begin()
        yield from run.answers("yes")

    scene.actor("worker", work())
    comes_back(scene, run)
    return scene


@history
def a_reader_comes_back_from_the_beginning() -> Scene:
    """It reads the log page by page while the turn goes on."""
    scene = Scene(page_max=2)
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    scene.reader(Follow(Cursor(0)))
    return scene


@history
def a_reader_is_cut_and_comes_back() -> Scene:
    """At any moment, with the cursor of the last response."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    scene.reader(cuts=1)
    return scene


@history
def a_reader_is_cut_while_a_turn_without_content_ends() -> Scene:
    """The object that it releases may be in use by the next one."""
    scene = Scene()
    run = Run(scene).acquired().begun()
    scene.actor("worker", run.is_interrupted())
    scene.actor("client", interrupts(scene))
    scene.reader(cuts=1)
    return scene


@history
def a_reader_leaves() -> Scene:
    """Nothing is kept for it, and no other reader misses anything."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    comes_back(scene, run, leaves=True)
    scene.readers_come()
    comes_back(scene, run)
    return scene


# --- several readers ------------------------------------------------------------------------------


@history
def two_readers_share_what_is_read() -> Scene:
    """One is up to date while the other begins."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    comes_back(scene, run)
    scene.readers_come()
    scene.reader()
    return scene


@history
def three_readers_and_one_event() -> Scene:
    """Each gets it, whichever reads first."""
    scene = Scene()
    scene.actor("client", renames(scene))
    is_level(scene, leaves=True)
    is_level(scene)
    scene.readers_come()
    is_level(scene, deltas=False)
    return scene


@history
def a_reader_without_deltas_beside_one_with() -> Scene:
    """Pieces wake both, and only one of them gets them."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    is_level(scene, deltas=False)
    scene.readers_come()
    is_level(scene)
    return scene


@history
def a_reader_that_gives_up_deltas_inside_an_answer() -> Scene:
    """The pieces that it holds are committed; it gets no more of them."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    comes_back(scene, run, deltas=False, cuts=1)
    return scene


@history
def a_reader_that_gives_up_deltas_inside_an_attempt_that_fails() -> Scene:
    """The pieces that it holds are reset."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.retry())
    comes_back(scene, run, deltas=False, cuts=1)
    return scene


@history
def a_watch_beside_a_reader() -> Scene:
    """A ListEvents call begins and ends."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    scene.actor("watch", watches(scene))
    comes_back(scene, run)
    return scene


# --- an attempt loses its chat --------------------------------------------------------------------


@history
def an_edit_overtakes_the_beginning_of_an_attempt() -> Scene:
    """The log may have closed an attempt before it is shown for the first time."""
    scene = Scene()
    run = Run(scene).acquired()

    def work() -> Actor:
        yield from run.begin()
        yield from run.answers("so")

    scene.actor("worker", fenced(run, work()))
    scene.actor("client", edits(scene))
    is_level(scene)
    return scene


@history
def an_edit_cuts_an_answer_and_another_run_follows() -> Scene:
    """The old run continues to write until it learns of the edit."""
    scene = Scene()
    run, next_run = Run(scene).acquired().begun("so "), Run(scene, "next")

    def again() -> Actor:
        yield lambda: scene.store.state.status is Status.PENDING
        yield from next_run.acquire()
        yield from next_run.begin()
        yield from next_run.answers("new")

    scene.actor("worker", fenced(run, run.answers("it")))
    scene.actor("client", edits(scene))
    scene.actor("next", again())
    comes_back(scene, run)
    scene.readers_come()
    return scene


@history
def the_outcome_of_a_commit_is_not_known() -> Scene:
    """The answer is committed, but its worker never learns of it and gives up."""
    scene = Scene(hints_may_be_lost=True)
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        scene.store.apply(run.answer())
        yield None
        run.abandon()

    scene.actor("worker", work())
    comes_back(scene, run)
    scene.reader()
    return scene


# --- deletion, retention, drain -------------------------------------------------------------------


@history
def a_turn_moves_on_while_nobody_reads() -> Scene:
    """A reader that comes later finds everything, and unseen pieces are not kept."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.retry()
        yield from run.begin()
        yield from run.answers("it")

    scene.actor("worker", work())
    scene.reader()
    return scene


@history
def a_chat_is_deleted() -> Scene:
    """Its streams end, whatever their state."""
    scene = Scene()
    scene.actor("client", deletes(scene))
    scene.reader()
    scene.reader(Follow(Cursor(0)))
    return scene


@history
def a_chat_that_runs_is_deleted_elsewhere() -> Scene:
    """The hint alone makes this server check."""
    scene = Scene(servers=2)
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", fenced(run, run.answers("it")))
    scene.actor("client", deletes(scene, server=1))
    comes_back(scene, run)
    scene.readers_come()
    return scene


@history
def retention_overtakes_a_reader() -> Scene:
    """It learns that its cursor has expired, unless it was fast enough."""
    scene = Scene(page_max=1)
    scene.actor("chore", prunes(scene))
    scene.actor("client", renames(scene))
    scene.reader(Follow(Cursor(0)))
    return scene


@history
def a_drain_ends_every_stream() -> Scene:
    """Including those that have not begun."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")

    def drain() -> Actor:
        scene.servers[0].hub.drain()
        yield None

    scene.actor("worker", run.answers("it"))
    scene.actor("server", drain())
    scene.reader()
    return scene


# --- several servers ------------------------------------------------------------------------------


@history
def the_turn_runs_on_another_server() -> Scene:
    """Only durable events come, each once, however late the hints are."""
    scene = Scene(servers=2)
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.answers("it")
        yield from run.finish()

    scene.actor("worker", work())
    scene.reader(server=1)
    return scene


@history
def a_reader_that_reads_for_all_is_cut() -> Scene:
    """Another reader continues the read."""
    scene = Scene(servers=2)
    scene.actor("client", renames(scene))
    is_level(scene, server=1, leaves=True)
    is_level(scene, server=1)
    scene.readers_come()
    return scene


@history
def hints_of_another_server_are_lost() -> Scene:
    """The heartbeat finds what they would have announced."""
    scene = Scene(servers=2, hints_may_be_lost=True)
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    is_level(scene, server=1)
    scene.readers_come()
    comes_back(scene, run, server=1, beats=1)
    return scene


@history
def another_server_writes_in_between() -> Scene:
    """A gap between two commits of this server is read from the log."""
    scene = Scene(servers=2)
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", run.answers("it"))
    scene.actor("client", renames(scene, server=1))
    comes_back(scene, run)
    scene.readers_come()
    return scene


@history
def another_server_writes_before_an_answer_is_committed() -> Scene:
    """The event that closes an attempt may follow one that this server does not know."""
    scene = Scene(servers=2)
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.answers()
        yield from run.begin()
        run.says("it")
        yield None

    scene.actor("worker", work())
    scene.actor("client", sends(scene, server=1))
    comes_back(scene, run)
    scene.readers_come()
    return scene


@history
def another_server_edits_under_an_answer() -> Scene:
    """This server learns late that the log has closed the attempt that it shows."""
    scene = Scene(servers=2)
    run = Run(scene).acquired().begun("so ")
    scene.actor("worker", fenced(run, run.answers("it")))
    scene.actor("client", edits(scene, server=1))
    comes_back(scene, run)
    scene.readers_come()
    return scene


@history
def the_chat_moves_to_another_server() -> Scene:
    """A reader that holds pieces of the old server's attempt continues there."""
    scene = Scene(servers=2)
    run, next_run = Run(scene).acquired().begun("so "), Run(scene, "next", server=1)

    def moves() -> Actor:
        yield from run.release()
        yield from next_run.acquire()
        yield from next_run.begin()
        yield from next_run.answers("new")

    scene.actor("worker", moves())
    comes_back(scene, run, server=1)
    scene.readers_come()
    return scene


# --- chains: several commands that are one commit -------------------------------------------------


@history
def an_answer_and_the_next_attempt_are_one_commit() -> Scene:
    """The state in a snapshot already has the next attempt open, which is not shown yet."""
    scene = Scene()
    run = Run(scene).acquired().begun("so ")

    def work() -> Actor:
        yield from run.answers_and_begins("it")
        yield from run.answers_and_finishes("goes")

    scene.actor("worker", work())
    scene.reader(SETTLED)
    return scene


@history
def a_reader_comes_back_while_chains_are_committed() -> Scene:
    """It holds a part of the attempt that the first chain closes."""
    scene = Scene()
    run = Run(scene).acquired().begun("so it ")

    def work() -> Actor:
        yield from run.answers_and_begins("goes")
        yield from run.answers_and_finishes("on")

    scene.actor("worker", work())
    comes_back(scene, run, beats=1)
    return scene


@history
def a_chat_is_taken_with_its_attempt() -> Scene:
    """The lease and the attempt come at once; an interrupt may come before the attempt is shown."""
    scene = Scene()
    run = Run(scene)

    def work() -> Actor:
        yield from run.acquires_and_begins()
        yield from run.answers_and_finishes("so it goes")

    scene.actor("worker", fenced(run, work()))
    scene.actor("client", sends(scene))
    is_level(scene)
    return scene
