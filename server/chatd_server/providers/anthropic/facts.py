"""Facts about Anthropic's models, found by the prefix of the name."""

import msgspec


class ModelFacts(msgspec.Struct, frozen=True):
    """The limits of a family of models. `thinks` is how thinking is requested."""

    prefix: str
    context_tokens_max: int
    output_tokens_max: int
    thinks: str


# Longest prefix first; context windows from the vendor's pages. Unknown names count as new models.
_WINDOW = 200_000
"""Of every model so far. Longer windows need a header that we do not send."""
_FACTS = (
    ModelFacts("claude-3-7", _WINDOW, 64_000, "budget"),
    ModelFacts("claude-3-5", _WINDOW, 8_192, ""),
    ModelFacts("claude-3", _WINDOW, 4_096, ""),
    ModelFacts("claude-sonnet-4-6", _WINDOW, 128_000, "adaptive"),
    ModelFacts("claude-sonnet-4", _WINDOW, 64_000, "budget"),
    ModelFacts("claude-opus-4-5", _WINDOW, 64_000, "budget"),
    ModelFacts("claude-opus-4-1", _WINDOW, 32_000, "budget"),
    ModelFacts("claude-opus-4-2", _WINDOW, 32_000, "budget"),
    ModelFacts("claude-opus-4-0", _WINDOW, 32_000, "budget"),
    ModelFacts("claude-haiku-4-5", _WINDOW, 64_000, "budget"),
)
_NEWEST = ModelFacts("", _WINDOW, 128_000, "adaptive")

OUTPUT_TOKENS_DEFAULT = 32_000
"""Default limit for the tokens of one answer: below every window, above any usual answer."""


def facts_of(model: str) -> ModelFacts:
    return next((facts for facts in _FACTS if model.startswith(facts.prefix)), _NEWEST)
