"""One worker: acquires chats that have work, up to its number of slots, and runs them.

A hint only makes it check before the next poll. An idle chat costs nothing here.
"""

import asyncio

from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.stop import Stop, StopCause
from chatd_server.domain.chat import Status
from chatd_server.domain.ids import MICROSECONDS, ChatId
from chatd_server.domain.refusal import DatabaseUnavailable
from chatd_server.observe import spans
from chatd_server.ports.store import Acquired, Acquisition, Applied
from chatd_server.ports.wake import Wake
from chatd_server.worker.alarm import Alarm
from chatd_server.worker.lease import Heart
from chatd_server.worker.rescue import Rescuer
from chatd_server.worker.run import run_chat
from chatd_server.worker.runs import Run, Runs
from chatd_server.worker.settings import LOOK_AGAIN_SECONDS_MIN, WorkerSettings


class Worker:
    """Also a `CommitListener`: it learns of this process's commits without a query."""

    def __init__(self, settings: WorkerSettings, wake: Wake, env: Env) -> None:
        self._settings = settings
        self._wake = wake
        self._env = env
        self._runs = Runs()
        self._is_draining = False
        self._waits_for_slot = False
        self._work = Alarm(env.clock, "poll")
        self._heart = Heart(self._runs, settings, env)
        self._rescuer = Rescuer(self._work.ring, settings, env)

    @property
    def running(self) -> int:
        """How many chats run now."""
        return len(self._runs)

    def committed(self, applied: Applied) -> None:
        """Handle a commit of this process: new work, an interrupt, or an edit during a run."""
        state = applied.state
        if state.status is Status.PENDING:
            self._work.ring()
        run = self._runs.get(state.id)
        if run is None or state.epoch < run.epoch:
            return
        run.revision = max(run.revision, state.revision)
        if state.epoch > run.epoch or state.lease is None:
            # Every normal end of a run arrives here too; then there is nothing left to stop.
            run.stop.request(StopCause.REPLACED)
        elif state.status is Status.INTERRUPTING:
            run.stop.request(StopCause.INTERRUPTED)

    def hinted(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Handle a hint from any process: check soon."""
        if status is Status.PENDING:
            self._work.ring()
        run = self._runs.get(chat_id)
        if run is not None and revision > run.revision and status is not Status.RUNNING:
            self._heart.ask(chat_id)

    def hints_missed(self) -> None:
        """Hints may have been lost: check for work, and check the held chats."""
        self._work.ring()
        for run in self._runs:
            self._heart.ask(run.chat_id)

    async def run(self) -> None:
        """Work until `drain`. Raises errors that no worker can recover from."""
        stop_listening = self._wake.listen(self.hinted)
        stop_listening_to_gaps = self._wake.listen_gaps(self.hints_missed)
        try:
            async with asyncio.TaskGroup() as chores:
                heart = chores.create_task(self._heart.run())
                rescuer = chores.create_task(self._rescuer.run())
                await self._take_until_draining()
                rescuer.cancel()
                await self._finish_runs()
                heart.cancel()
        finally:
            stop_listening()
            stop_listening_to_gaps()
            # Only a cancelled worker still has runs here: they release their chats.
            self._stop_runs()
            await self._runs.ended()

    def drain(self) -> None:
        """Acquire nothing more; `run` returns when all runs have ended or were stopped."""
        self._is_draining = True
        self._work.ring()

    async def _take_until_draining(self) -> None:
        while not self._is_draining:
            free = self._settings.slots_max - len(self._runs)
            wanted = min(free, self._settings.acquire_batch_max)
            taken = await self._take(wanted) if wanted > 0 else Acquisition()
            self._waits_for_slot = wanted == 0
            if wanted == 0:
                await self._work.wait_for_ring()
            elif len(taken.chats) < wanted:
                await self._work.wait(self._pause(taken.passed_over_seconds))

    def _pause(self, passed_over_seconds: float | None) -> float:
        """Return how long to wait for a hint before the next check.

        Rows that another transaction holds are free again soon, without a hint. Each wait is as
        long as all before it together, so a row that is held for long costs few checks.
        """
        poll = self._settings.poll_seconds
        if passed_over_seconds is None:
            return poll
        return min(max(passed_over_seconds, LOOK_AGAIN_SECONDS_MIN), poll)

    async def _take(self, wanted: int) -> Acquisition:
        """Acquire chats and start them. A cancellation waits for a pending acquisition: it may be
        committed, and no other worker would get those chats before their leases expire.
        """
        env = self._env
        taking = asyncio.ensure_future(
            env.store.acquire(env.worker_id, wanted, self._settings.lease_seconds)
        )
        try:
            await asyncio.wait([taking])
        except asyncio.CancelledError:
            await asyncio.wait([taking])
            self._start_taken(taking)
            raise
        return self._start_taken(taking)

    def _start_taken(self, taking: asyncio.Future[Acquisition]) -> Acquisition:
        try:
            taken = taking.result()
        except DatabaseUnavailable as error:
            self._env.observer.note(spans.DatabaseFailed(doing="acquire", error=str(error)))
            return Acquisition()
        for one in taken.chats:
            self._start(one)
        return taken

    def _start(self, acquired: Acquired) -> None:
        stop = Stop()
        state = acquired.state
        task = asyncio.create_task(run_chat(acquired, stop, self._env), name=f"run {state.id}")
        leased_until = self._env.clock.now() + round(self._settings.lease_seconds * MICROSECONDS)
        self._runs.add(Run(state.id, state.epoch, stop, task, leased_until, state.revision))
        task.add_done_callback(self._slot_is_free)

    def _slot_is_free(self, _: asyncio.Task[None]) -> None:
        if self._waits_for_slot:
            self._work.ring()

    async def _finish_runs(self) -> None:
        """Let runs end on their own for a while, then stop them."""
        try:
            async with self._env.clock.timeout(self._settings.drain_seconds, "drain"):
                await self._runs.ended()
        except TimeoutError:
            self._stop_runs()
            await self._runs.ended()

    def _stop_runs(self) -> None:
        for run in self._runs:
            run.stop.request(StopCause.SHUTDOWN)
