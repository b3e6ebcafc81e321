"""The Anthropic Messages API: encodes requests, decodes streams, classifies failures."""

from chatd_server.ports.clock import Clock
from chatd_server.providers.anthropic.model import BASE_URL, AnthropicModel
from chatd_server.providers.http.transport import Transport
from chatd_server.providers.settings import ProviderSettings

__all__ = ["AnthropicModel", "AnthropicProvider"]


class AnthropicProvider:
    """Anthropic's models, with one connection pool."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:
        self._settings = settings
        self._transport = Transport(clock)

    def model(self, name: str) -> AnthropicModel:
        """Return a model; any name is accepted: only the vendor knows which models exist."""
        return AnthropicModel(
            name,
            api_key=self._settings.api_key,
            base_url=self._settings.base_url or BASE_URL,
            transport=self._transport,
        )

    async def close(self) -> None:
        await self._transport.close()
