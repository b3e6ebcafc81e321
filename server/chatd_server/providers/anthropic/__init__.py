"""The Anthropic Messages dialect: encode a request, decode a stream, name a failure."""

from chatd_server.ports import Clock
from chatd_server.providers.anthropic.model import BASE_URL, AnthropicModel
from chatd_server.providers.settings import ProviderSettings
from chatd_server.providers.transport import Transport

__all__ = ["AnthropicModel", "anthropic_model"]


def anthropic_model(
    model: str,
    settings: ProviderSettings,
    clock: Clock,  # noqa: ARG001  every factory is called alike
) -> AnthropicModel:
    """Return a model with connections of its own."""
    return AnthropicModel(
        model,
        api_key=settings.api_key,
        base_url=settings.base_url or BASE_URL,
        transport=Transport(),
    )
