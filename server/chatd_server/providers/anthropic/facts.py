"""What is known of Anthropic's models by the beginning of their names."""

import msgspec


class ModelFacts(msgspec.Struct, frozen=True):
    """What a family of models takes. `thinks` is how thinking is asked for."""

    prefix: str
    output_tokens_max: int
    thinks: str


# Longest prefix first; windows from the vendor's pages. Unknown names are taken for new ones.
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
"""Tokens of one answer when nobody says: below every window, above any usual answer."""


def facts_of(model: str) -> ModelFacts:
    """Return what is known of a model."""
    return next((facts for facts in _FACTS if model.startswith(facts.prefix)), _NEWEST)
