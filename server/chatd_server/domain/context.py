"""How full the model's context is: what the vendor counted, and an estimate of what came since.

A vendor counts the context when it answers. Until its next answer, the size of newer messages is
estimated from their text. The threshold of automatic compaction is a share of the context window.
"""

from collections.abc import Mapping, Sequence

from chatd_server.domain.ids import OwnerId
from chatd_server.domain.message import (
    FileReference,
    FinishReason,
    Message,
    Part,
    Reasoning,
    Refusal,
    Role,
    Source,
    Text,
    ToolCall,
    ToolResult,
    Usage,
    Value,
    Visibility,
)

BYTES_PER_TOKEN = 4
"""The usual rule of thumb for text; too high for code, too low for some scripts."""

THRESHOLD_PERCENT = 70.0
"""Default of the threshold."""
NEVER_PERCENT = 100.0
"""A threshold that switches automatic compaction off."""


class ContextUse(Value, frozen=True, omit_defaults=True):
    """The size of one chat's context, kept up to date by each transition that adds messages."""

    #: Prompt tokens, cached ones included, of the newest answer that reported them; None before
    #: the first.
    counted_tokens: int | None = None
    #: Tokens of that answer itself.
    answer_tokens: int = 0
    #: Bytes of text after that answer; of the whole context when there is none.
    newer_bytes: int = 0
    #: The context window that `model` reported with it.
    limit: int | None = None
    model: str = ""
    #: Whether the context has an answer: else there is nothing to summarise.
    is_answered: bool = False

    @property
    def estimated_tokens(self) -> int:
        """The part of `used_tokens` that the vendor has not counted as a prompt yet."""
        return self.answer_tokens - (-self.newer_bytes // BYTES_PER_TOKEN)

    @property
    def used_tokens(self) -> int:
        """All tokens of the context."""
        return (self.counted_tokens or 0) + self.estimated_tokens

    def after(self, message: Message) -> "ContextUse":
        """Return the use after one more message."""
        if message.visibility is Visibility.USER:
            return self
        counted = _counted(message)
        if counted is None:
            return ContextUse(
                self.counted_tokens,
                self.answer_tokens,
                self.newer_bytes + text_bytes(message.parts),
                self.limit,
                self.model,
                self.is_answered or message.role is Role.ASSISTANT,
            )
        usage = message.usage or Usage()
        tokens, newer_bytes = usage.output_tokens or 0, 0
        if not _prompt_tokens(usage):
            tokens = 0  # the total has the answer already
        elif usage.output_tokens is None or message.finish_reason is FinishReason.INTERRUPTED:
            # The vendor had no time to count the answer.
            tokens, newer_bytes = 0, text_bytes(message.parts)
        return ContextUse(counted, tokens, newer_bytes, usage.context_limit, message.model, True)

    def begun_again(self) -> "ContextUse":
        """Return the use of an empty context with the same window."""
        return ContextUse(limit=self.limit, model=self.model)


def measure(messages: Sequence[Message]) -> ContextUse:
    """Return the use of a context whose state does not know it, from its messages."""
    first = len(messages) - 1
    while first > 0 and _counted(messages[first]) is None:
        first -= 1
    use = ContextUse()
    for message in messages[max(first, 0) :]:
        use = use.after(message)
    return use


def _counted(message: Message) -> int | None:
    """Return the tokens of the context that came with an answer; None when none were reported."""
    if message.role is not Role.ASSISTANT or message.usage is None:
        return None
    return _prompt_tokens(message.usage) or message.usage.context_tokens or None


def _prompt_tokens(usage: Usage) -> int:
    return (
        (usage.input_tokens or 0) + (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    )


def text_bytes(parts: Sequence[Part]) -> int:
    """Return the bytes of text in some parts. Files count nothing: their tokens are no text."""
    return sum(map(_part_bytes, parts))


def _part_bytes(part: Part) -> int:
    match part:
        case Text(text=text) | Reasoning(text=text) | Refusal(text=text):
            return _bytes(text)
        case ToolCall():
            return _bytes(part.name) + _bytes(part.arguments)
        case ToolResult():
            return _bytes(part.output)
        case FileReference():
            return _bytes(part.content)
        case Source():
            return _bytes(part.cited_text)
        case _:
            return 0


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


# --- the window and the threshold ----------------------------------------------------------


class Thresholds(Value, frozen=True):
    """At which share of the context window, in percent, a context is compacted by itself."""

    percent: float = THRESHOLD_PERCENT
    models: Mapping[str, float] = {}
    owners: Mapping[str, float] = {}

    def of(self, owner_id: OwnerId, model: str) -> float:
        """Return the owner's threshold, else the model's, else that of all."""
        if owner_id in self.owners:
            return self.owners[owner_id]
        return self.models.get(model, self.percent)


class ContextLevel(Value, frozen=True, omit_defaults=True):
    """How full a context is."""

    use: ContextUse
    #: The context window in tokens; None when unknown.
    limit: int | None
    threshold_percent: float

    @property
    def used_percent(self) -> float | None:
        """The used share of the window; None when the window is unknown."""
        return None if self.limit is None else self.use.used_tokens * 100 / self.limit

    @property
    def is_due(self) -> bool:
        """Whether the context should be compacted.

        Never on an estimate alone: after a compaction another answer has to be counted first.
        """
        percent = self.used_percent
        return (
            percent is not None
            and self.use.counted_tokens is not None
            and self.threshold_percent < NEVER_PERCENT
            and percent >= self.threshold_percent
        )

    @property
    def has_room(self) -> bool:
        """Whether the model can be called without a compaction, as far as known."""
        return self.limit is None or self.use.used_tokens < self.limit


def window(use: ContextUse, model: str, *own_limits: int | None) -> int | None:
    """Return the context window for a model; None when unknown.

    What the vendor reported with the newest answer of this model counts, else the first of
    `own_limits`, which is the model's own. The others are those of models that must take the same
    context: the smallest decides.
    """
    own, *others = own_limits or (None,)
    reported = use.limit if use.model == model else None
    known = [limit for limit in (reported or own, *others) if limit]
    return min(known, default=None)
