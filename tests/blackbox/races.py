"""Two programs for the first milliseconds of a stream, where a snapshot meets a running turn.

Each try creates its own chat and subscribes at a random moment near the beginning or end of a turn.
The seed decides everything but the timing, so a failing try may pass when repeated.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field

from chatd.v1 import chat_service_pb2
from tests.blackbox.calls import Caller, user
from tests.blackbox.follower import FOREVER, SETTLED, Follower, Story, Then
from tests.blackbox.oracle import judge
from tests.blackbox.rules import ViolationError, first_of
from tests.blackbox.view import SETTLED as SETTLED_STATUSES
from tests.blackbox.waits import pause

CREATE_TO_SUBSCRIBE_SECONDS = 0.015
CREATE_TO_INTERRUPT_SECONDS = 0.030
INTERRUPT_TO_SUBSCRIBE_SECONDS = 0.008
AT_ONCE = 4
"""Concurrent tries: enough to keep two cores busy."""
STREAMS = 3
"""Streams per try, each beginning at its own moment."""
LINGER = 0.25
"""Fraction of streams that stay one heartbeat longer, to detect unexpected responses."""

PLAIN = "!text 6"
WITH_TOOLS = """\
!say I look.
!call sandbox_lookup {"key": "a"}
!call current_time
!step
!call sandbox_lookup {"key": "b"}
!step
!say I look again.
!call sandbox_lookup {"key": "c"}
!step
!text 3"""
STALLED = "!say Before.\n!stall 20\n!say After."
AGAIN = "!text 4"

Try = Callable[[Caller, random.Random], Awaitable[None]]


@dataclass
class Tally:
    """The results of one program's tries."""

    tries: int = 0
    failures: list[tuple[int, ViolationError]] = field(default_factory=list)
    """Failures, with the seed of the try."""


async def subscribe_at_the_start(caller: Caller, rng: random.Random) -> None:
    """Create a chat with a message, and subscribe while its turn begins, runs, or ends."""
    created = await caller.create(rng.choice([PLAIN, WITH_TOOLS]))
    story = Story(created.chat.chat_id, created.sequence)
    followers = []
    for number in range(STREAMS):
        follower = Follower(f"stream {number} at the start", story, lambda: caller)
        follower.until = rng.choice([SETTLED, FOREVER])
        if follower.until == FOREVER:
            follower.pace = Settling(follower, created.message.message_id, rng.random() < LINGER)
        followers.append(follower)
    delays = [rng.uniform(0, CREATE_TO_SUBSCRIBE_SECONDS) for _ in followers]
    await together(follow_after(*each) for each in zip(delays, followers, strict=True))
    await judge(caller, story, followers)


async def subscribe_at_an_interrupt(caller: Caller, rng: random.Random) -> None:
    """Interrupt an answer, subscribe meanwhile, then send another message."""
    created = await caller.create(STALLED)
    story = Story(created.chat.chat_id, created.sequence)
    await pause(rng.uniform(0, CREATE_TO_INTERRUPT_SECONDS))
    interrupt = chat_service_pb2.InterruptChatRequest(chat_id=story.chat_id)
    interrupted = await caller.ask("InterruptChat", interrupt)
    story.head = interrupted.sequence
    followers = [
        Follower(f"stream {n} at an interrupt", story, lambda: caller) for n in range(STREAMS)
    ]
    paces = [Settling(follower, "", rng.random() < LINGER) for follower in followers]
    for follower, pace in zip(followers, paces, strict=True):
        follower.pace = pace

    async def send() -> None:
        await pause(rng.uniform(0, INTERRUPT_TO_SUBSCRIBE_SECONDS))
        request = chat_service_pb2.SendMessageRequest(chat_id=story.chat_id, message=user(AGAIN))
        placed = await caller.ask("SendMessage", request)
        for pace in paces:
            pace.message_id = placed.message.message_id or placed.queued_message.message_id

    delays = [rng.uniform(0, INTERRUPT_TO_SUBSCRIBE_SECONDS) for _ in followers]
    following = [follow_after(*each) for each in zip(delays, followers, strict=True)]
    await together([send(), *following])
    await judge(caller, story, followers)


async def follow_after(seconds: float, follower: Follower) -> None:
    """Subscribe after a pause."""
    await pause(seconds)
    await follower.follow()


async def together(all_of_it: Iterable[Coroutine[None, None, None]]) -> None:
    """Run concurrently; raise the first violation."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in all_of_it:
                group.create_task(each)
    except* ViolationError as violations:
        raise first_of(violations) from None


@dataclass
class Settling:
    """Decides when to leave: after the turn of a message, or only at the next heartbeat."""

    follower: Follower
    message_id: str
    lingers: bool

    async def __call__(self, response: chat_service_pb2.SubscribeResponse) -> Then:
        """Decide after each response."""
        view, at = self.follower.known.view, response.cursor
        # The status follows its message in the log, so after the message it belongs to its turn.
        begun = any(
            message.message_id == self.message_id and message.sequence < at.sequence
            for message in view.messages.values()
        )
        settled = begun and view.status in SETTLED_STATUSES and not at.snapshot_unfinished
        if settled and (not self.lingers or response.event.HasField("heartbeat")):
            return Then.LEAVE
        return Then.READ


async def race(
    program: Try,
    caller: Caller,
    tries: int,
    seed: int,
    told: Callable[[Tally], None] = lambda _: None,
) -> Tally:
    """Run a program this many times, with some concurrency, and count the results."""
    tally = Tally()
    seeds = iter(range(seed, seed + tries))

    async def lane() -> None:
        for own in seeds:
            try:
                await program(caller, random.Random(own))
            except ViolationError as violation:
                tally.failures.append((own, violation))
            tally.tries += 1
            told(tally)

    async with asyncio.TaskGroup() as lanes:
        for _ in range(min(AT_ONCE, tries)):
            lanes.create_task(lane())
    return tally
