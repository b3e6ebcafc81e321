"""What a compaction is about: how full the context is, whether it helps, what it keeps. Pure."""

from collections.abc import Sequence

from chatd_server.domain.chat import Turn
from chatd_server.domain.context import ContextLevel, ContextUse, Thresholds, window
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import COMPACTIONS_PER_TURN_MAX
from chatd_server.domain.message import Message, Role
from chatd_server.ports.models import Model


def level_for(
    use: ContextUse,
    owner_id: OwnerId,
    model: Model,
    summariser: Model | None,
    thresholds: Thresholds,
) -> ContextLevel:
    """Return how full a context is for a model; `summariser` has to take it, too, if there is one
    besides it.
    """
    own_limits = [it.context_limit for it in (model, summariser) if it is not None]
    limit = window(use, model.name, *own_limits)
    return ContextLevel(use, limit, thresholds.of(owner_id, model.name))


def helps_against(refusal: ChatError, turn: Turn, messages: Sequence[Message]) -> bool:
    """Return whether a compaction may help against a model's refusal of this context.

    Not twice in a row: after a summary there must be an answer to summarise.
    """
    return (
        refusal.kind is ErrorKind.CONTEXT_EXCEEDED
        and not turn.compaction_failed
        and turn.compactions < COMPACTIONS_PER_TURN_MAX
        and has_answer(messages)
    )


def has_answer(messages: Sequence[Message]) -> bool:
    """Return whether a context has anything to summarise: an answer since its newest summary."""
    for message in reversed(messages):
        if message.role is Role.ASSISTANT:
            return True
        if message.summary_for is not None:
            return False
    return False


def count_unanswered(messages: Sequence[Message]) -> int:
    """Return how many messages of the user at the end nobody has answered yet."""
    count = 0
    for message in reversed(messages):
        if not message.is_unanswered:
            break
        count += 1
    return count
