"""A chat that this worker holds: its state and context as of the last commit, and the commands
planned for the next one.

Commands are planned in order, each on the state that `advance` predicts, and written as one chain
before the next wait. If the commit is refused, the whole plan is dropped.
"""

from collections.abc import Sequence
from typing import Self, TypedDict

from chatd_server.agent.model.prompt import Prompt
from chatd_server.agent.tools.offer import ToolOffer
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.facts import fact_of
from chatd_server.agent.turn.stop import Stop, StopCause, Stopped
from chatd_server.domain.chain import Chain, commands_of
from chatd_server.domain.chat import Attempt, AttemptKind, ChatState, Status, Turn
from chatd_server.domain.command import Command, StartAttempt
from chatd_server.domain.context import ContextUse, measure
from chatd_server.domain.ids import AttemptId, ChatId, WorkerId, new_uuid
from chatd_server.domain.limits import PAGE_BYTES_MAX, PAGE_SIZE_MAX
from chatd_server.domain.machine import advance
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import LeaseLost, NotFound, WrongStatus
from chatd_server.domain.transition import CallStart
from chatd_server.ports.models import Conversation, Model
from chatd_server.ports.store import Acquired

PROMPT_PIECE = 2_000
"""Messages added to a prompt per turn of the event loop: about two milliseconds."""


class Signature(TypedDict):
    """The fields that every command of a worker has."""

    command_id: str
    worker_id: WorkerId
    epoch: int


class Held:
    """The only writer of its chat's transitions while the lease lasts. Create it with `open`."""

    def __init__(self, acquired: Acquired, stop: Stop, env: Env) -> None:
        self._env = env
        self.stop = stop
        #: The state after the planned commands.
        self.state: ChatState = acquired.state
        self.epoch = acquired.state.epoch
        #: The messages after the planned commands; the prompt has only committed ones.
        self.history = list(acquired.messages)
        self.prompt = Prompt()
        self._committed = acquired.state
        #: The attempt that the acquisition began, until it is used or another commit is made.
        self._begun: Attempt | None = self.turn.attempt
        self._planned: list[Command] = []
        #: How many messages at the end of the history are planned.
        self._ahead = 0
        #: The use of the context where the state does not know it; the next answer tells.
        self._measured = None if acquired.state.context else measure(self.history)
        self._model: Model | None = None
        self._conversation: Conversation | None = None
        self._tools = ToolOffer(env.tool_sources, env.observer)

    @classmethod
    async def open(cls, acquired: Acquired, stop: Stop, env: Env) -> Self:
        """Hold an acquired chat. The prompt is built in pieces, so that other tasks can run."""
        held = cls(acquired, stop, env)
        for start in range(0, len(held.history), PROMPT_PIECE):
            if start:
                await env.clock.sleep(0, "prompt.piece")
            held.prompt.extend(held.history[start : start + PROMPT_PIECE])
        return held

    @property
    def id(self) -> ChatId:
        return self.state.id

    @property
    def turn(self) -> Turn:
        assert self.state.turn is not None, "a chat that is worked on has an open turn"
        return self.state.turn

    @property
    def context(self) -> ContextUse:
        """How much the context holds, after the planned commands."""
        return self.state.context or self._measured or ContextUse()

    def choose_model(self) -> None:
        """Look up the model of the turn. Raises ModelNotFound."""
        self._model = self._env.models.get(self.model_name)
        self._conversation = self._model.conversation()

    @property
    def model_name(self) -> str:
        """The model that the turn names, else the chat, else the server."""
        return self.turn.options.model or self.state.config.model or self._env.default_model

    @property
    def model(self) -> Model:
        assert self._model is not None, "choose_model comes first"
        return self._model

    @property
    def conversation(self) -> Conversation:
        """The run's calls to the model."""
        assert self._conversation is not None, "choose_model comes first"
        return self._conversation

    @property
    def toolbox(self) -> Toolbox:
        """The tools as of the last `refresh_tools`."""
        return self._tools.toolbox

    async def refresh_tools(self) -> None:
        """Update the tools, before each model call and each batch. Raises Stopped.

        Awaits nothing unless something has changed.
        """
        await self._tools.refresh(self.state, self.model.name, self.stop)

    @property
    def attempt(self) -> Attempt:
        assert self.turn.attempt is not None, "an attempt is open"
        return self.turn.attempt

    def signed(self, subject: str, kind: str) -> Signature:
        """Return the fields of a worker's command. `subject` is an attempt id or the lease."""
        return Signature(
            command_id=f"{subject}:{kind}", worker_id=self._env.worker_id, epoch=self.epoch
        )

    def signed_once(self, kind: str) -> Signature:
        """Sign a command that is sent at most once per lease."""
        return self.signed(f"{self.id}:{self.epoch}", kind)

    def take_begun(self) -> Attempt | None:
        """Return, only once, the model call that the acquisition began."""
        begun, self._begun = self._begun, None
        return begun

    # --- commits ---------------------------------------------------------------------------

    @property
    def has_plans(self) -> bool:
        return bool(self._planned)

    def plan(self, command: Command) -> None:
        """Add a command to the next commit and continue as if it were committed.

        Raises Stopped if the chat is known to be interrupted.
        """
        try:
            predicted = advance(self.state, command, self._env.clock.now())
        except WrongStatus as refused:
            if refused.status is not Status.INTERRUPTING:
                raise
            raise self._interrupted() from refused
        self._planned.append(command)
        self.state = predicted.state
        self.history.extend(predicted.messages)
        self._ahead += len(predicted.messages)

    def plan_attempt(self, kind: AttemptKind) -> AttemptId:
        """Plan a new attempt; return its id."""
        attempt_id = AttemptId(new_uuid(self._env.clock.now()))
        self.plan(
            StartAttempt(**self.signed(attempt_id, "start"), attempt_id=attempt_id, kind=kind)
        )
        return attempt_id

    async def commit(self, started: Sequence[CallStart] = ()) -> None:
        """Commit the plan and the start of these calls, all or nothing.

        Raises Stopped if the chat turns out to be interrupted or the stop forbids writing;
        LeaseLost; DatabaseUnavailable. In each case the plan is dropped.
        """
        planned = tuple(self._planned)
        order = planned[0] if len(planned) == 1 and not started else Chain(planned, tuple(started))
        known = self._committed
        self._forget()
        await self._send(order, known)

    async def apply(self, command: Command, *, reads_journal: bool = False) -> None:
        """Drop the plan and commit one command instead. Raises what `commit` raises.

        `reads_journal`: the store must load the state, because the command closes calls whose
        journal is not known here.
        """
        self._forget()
        await self._send(command, None if reads_journal else self._committed)

    def _forget(self) -> None:
        """Return to the state of the last commit."""
        self._planned = []
        self.state = self._committed
        if self._ahead:
            del self.history[-self._ahead :]
            self._ahead = 0

    async def _send(self, order: Command | Chain, known: ChatState | None) -> None:
        if self.stop.cause is not None and not self.stop.cause.may_write:
            raise Stopped(self.stop.cause)
        try:
            applied = await self._env.store.apply(self.id, order, known=known)
        except WrongStatus as refused:
            if refused.status is not Status.INTERRUPTING:
                raise
            raise self._interrupted() from refused
        except NotFound as gone:
            raise LeaseLost from gone
        before = self._committed
        self.state = self._committed = applied.state
        self._begun = None
        if applied.replayed:
            await self._catch_up()
        else:
            self._append(applied.messages)
        if applied.state.boundary_position != before.boundary_position:
            self._begin_context()
        for command in commands_of(order):
            if (fact := fact_of(command, before, applied.state)) is not None:
                self._env.observer.note(fact)

    def _interrupted(self) -> Stopped:
        """Treat a refusal as a stop whose hint was lost or has not arrived yet."""
        self.stop.request(StopCause.INTERRUPTED)
        return Stopped(StopCause.INTERRUPTED)

    async def _catch_up(self) -> None:
        """Read what an earlier, unacknowledged try of the command committed."""
        more = True
        while more:
            after = self.history[-1].position if self.history else self.state.boundary_position - 1
            page, more = await self._env.store.messages(
                self.id, after_position=after, limit=PAGE_SIZE_MAX, bytes_max=PAGE_BYTES_MAX
            )
            self._append(page)

    def _begin_context(self) -> None:
        """Drop what lies before a new boundary: the prompt begins there, too."""
        first = self.state.boundary_position
        self.history = [it for it in self.history if it.position >= first]
        self.prompt = Prompt()
        self.prompt.extend(self.history)

    def _append(self, messages: Sequence[Message]) -> None:
        self.history.extend(messages)
        self.prompt.extend(messages)
