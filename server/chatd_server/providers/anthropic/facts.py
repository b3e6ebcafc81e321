"""Facts about Anthropic's models, found by the prefix of the name."""

import msgspec


class ModelFacts(msgspec.Struct, frozen=True):
    """The limits of a family of models. `thinks` is how thinking is requested."""

    prefix: str
    output_tokens_max: int
    thinks: str


# Longest prefix first; context windows from the vendor's pages. Unknown names count as new models.
_FACTS = (
    ModelFacts("claude-3-7", 64_000, "budget"),
    ModelFacts("claude-3-5", 8_192, ""),
    ModelFacts("claude-3", 4_096, ""),
    ModelFacts("claude-sonnet-4-6", 128_000, "adaptive"),
    ModelFacts("claude-sonnet-4", 64_000, "budget"),
    ModelFacts("claude-opus-4-5", 64_000, "budget"),
    ModelFacts("claude-opus-4-1", 32_000, "budget"),
    ModelFacts("claude-opus-4-2", 32_000, "budget"),
    ModelFacts("claude-opus-4-0", 32_000, "budget"),
    ModelFacts("claude-haiku-4-5", 64_000, "budget"),
)
_NEWEST = ModelFacts("", 128_000, "adaptive")

OUTPUT_TOKENS_DEFAULT = 32_000
"""Default limit for the tokens of one answer: below every window, above any usual answer."""


def facts_of(model: str) -> ModelFacts:
    return next((facts for facts in _FACTS if model.startswith(facts.prefix)), _NEWEST)
