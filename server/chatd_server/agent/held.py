"""A chat that this worker holds: its state and its context as of the last commit."""

from collections.abc import Sequence
from typing import TypedDict

from chatd_server.agent.env import Env
from chatd_server.agent.prompt import Prompt
from chatd_server.agent.stop import Stop, StopCause, Stopped
from chatd_server.agent.toolbox import Toolbox
from chatd_server.domain.chat import ChatState, Status, Turn
from chatd_server.domain.command import Command
from chatd_server.domain.ids import AttemptId, ChatId, WorkerId, new_uuid
from chatd_server.domain.limits import PAGE_BYTES_MAX, PAGE_SIZE_MAX
from chatd_server.domain.message import Message
from chatd_server.domain.refusal import LeaseLost, NotFound, WrongStatus
from chatd_server.observe import Span
from chatd_server.ports import Acquired, Applied, Conversation, Model


class Signature(TypedDict):
    """The fields that every command of a worker has."""

    command_id: str
    worker_id: WorkerId
    epoch: int


class Held:
    """The only one that writes transitions of its chat while the lease lasts."""

    def __init__(self, acquired: Acquired, stop: Stop, env: Env) -> None:
        self._env = env
        self.stop = stop
        self.state: ChatState = acquired.state
        self.epoch = acquired.state.epoch
        self.history = list(acquired.messages)
        self.prompt = Prompt(acquired.messages)
        self._model: Model | None = None
        self._conversation: Conversation | None = None
        self._toolbox_version = 0
        self._toolbox = Toolbox({}, ())

    @property
    def id(self) -> ChatId:
        """The chat."""
        return self.state.id

    @property
    def turn(self) -> Turn:
        """The open turn."""
        assert self.state.turn is not None, "a chat that is worked on has an open turn"
        return self.state.turn

    def choose_model(self) -> None:
        """Look up the model of the turn; raises ModelNotFound when it is not configured."""
        self._model = self._env.models.get(self.model_name)
        self._conversation = self._model.conversation()

    @property
    def model_name(self) -> str:
        """The name that the turn, the chat or the server gives."""
        return self.turn.options.model or self.state.config.model or self._env.default_model

    @property
    def model(self) -> Model:
        """The model of the turn."""
        assert self._model is not None, "choose_model comes first"
        return self._model

    @property
    def conversation(self) -> Conversation:
        """The run's calls to the model."""
        assert self._conversation is not None, "choose_model comes first"
        return self._conversation

    @property
    def toolbox(self) -> Toolbox:
        """The tools of the chat; built anew when its owner changed the chat."""
        config = self.state.config
        if self._toolbox_version != config.version:
            self._toolbox_version = config.version
            self._toolbox = Toolbox(self._env.tools.active(self.model.name), config.tools)
            for name in self._toolbox.hidden:
                self._env.observer.note(Span.TOOL_HIDDEN, chat=self.id, tool=name)
        return self._toolbox

    def new_attempt(self) -> AttemptId:
        """Return an id for the next attempt."""
        return AttemptId(new_uuid(self._env.clock.now()))

    def signed(self, subject: str, kind: str) -> Signature:
        """Return what makes a command ours. `subject` is an attempt, or the lease itself."""
        return Signature(
            command_id=f"{subject}:{kind}", worker_id=self._env.worker_id, epoch=self.epoch
        )

    def signed_once(self, kind: str) -> Signature:
        """Sign a command that a lease sends at most once."""
        return self.signed(f"{self.id}:{self.epoch}", kind)

    async def apply(self, command: Command, *, reads_journal: bool = False) -> Applied:
        """Commit a command, and take over what it changed.

        `reads_journal`: the store has to load the state, because the command closes calls whose
        journal is not known here. Raises Stopped when the chat turns out to be interrupted, or
        the stop forbids writing; LeaseLost; DatabaseUnavailable.
        """
        if self.stop.cause is not None and not self.stop.cause.may_write:
            raise Stopped(self.stop.cause)
        known = None if reads_journal else self.state
        try:
            applied = await self._env.store.apply(self.id, command, known=known)
        except WrongStatus as refused:
            if refused.status is not Status.INTERRUPTING:
                raise
            # The hint was lost, or is still on its way.
            self.stop.request(StopCause.INTERRUPTED)
            raise Stopped(StopCause.INTERRUPTED) from refused
        except NotFound as gone:
            raise LeaseLost from gone
        self.state = applied.state
        if applied.replayed:
            await self._catch_up()
        else:
            self._append(applied.messages)
        return applied

    async def _catch_up(self) -> None:
        """Read what an earlier, unanswered try of the command has committed."""
        more = True
        while more:
            after = self.history[-1].position if self.history else self.state.boundary_position - 1
            page, more = await self._env.store.messages(
                self.id, after_position=after, limit=PAGE_SIZE_MAX, bytes_max=PAGE_BYTES_MAX
            )
            self._append(page)

    def _append(self, messages: Sequence[Message]) -> None:
        self.history.extend(messages)
        self.prompt.extend(messages)
