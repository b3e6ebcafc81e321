"""The configured models by name. An adapter is imported when its first model is requested."""

from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import import_module
from typing import Protocol, cast

import msgspec

from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.failure import ErrorKind, failure
from chatd_server.domain.refusal import ModelNotFound, Violation
from chatd_server.ports.clock import Clock
from chatd_server.ports.models import Conversation, Model, ModelRequest
from chatd_server.providers.settings import ProviderSettings

MODEL_NAME_CHARACTERS_MAX = 128
MODELS_HELD_MAX = 256
"""Names come from clients, so the cache is bounded; the oldest entry is dropped."""


class Provider(Protocol):
    """One vendor. It owns the connections; its models own none, so a model may be dropped."""

    def model(self, name: str) -> Model:
        """Return a model; `name` is the vendor's, without the provider prefix. Does no I/O.

        Raises ModelNotFound if all models of the vendor are known and this is not one of them.
        """

    async def close(self) -> None:
        """Close the connections of all its models."""


class Factory(Protocol):
    """What an adapter exports."""

    def __call__(self, settings: ProviderSettings, clock: Clock) -> Provider:
        """Return a provider. Does no I/O."""


class Adapter(msgspec.Struct, frozen=True):
    """Where the factory of a provider is, and facts that need no import of it."""

    module: str
    factory: str
    example: str
    needs_key: bool = True


ADAPTERS: Mapping[str, Adapter] = {
    "sandbox": Adapter(
        "chatd_server.providers.sandbox", "SandboxProvider", "echo", needs_key=False
    ),
    "anthropic": Adapter(
        "chatd_server.providers.anthropic", "AnthropicProvider", "claude-sonnet-4-6"
    ),
}


class ModelRegistry:
    """The `Models` port. Defaults for a provider without settings: enabled, no key.

    Also returns a model whose provider is disabled or has no key, so that its chats stay readable;
    its calls fail with provider_disabled or missing_key.
    """

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings],
        clock: Clock,
        adapters: Mapping[str, Adapter] = ADAPTERS,
    ) -> None:
        self._settings = dict(settings)
        self._clock = clock
        self._adapters = adapters
        self._providers: dict[str, Provider] = {}
        self._held: dict[str, Model] = {}

    def get(self, name: str) -> Model:
        """Return the model "provider/model". Raises ModelNotFound."""
        if name not in self._held:
            model = self._made(name)
            if len(self._held) == MODELS_HELD_MAX:
                del self._held[next(iter(self._held))]
            self._held[name] = model
        return self._held[name]

    def names(self) -> Sequence[str]:
        """Return one example model for each usable provider."""
        return [
            f"{provider}/{adapter.example}"
            for provider, adapter in self._adapters.items()
            if self._obstacle(provider) is None
        ]

    def warm_up(self) -> None:
        """Import the adapters of usable providers; may run in a thread.

        The HTTP libraries take about 300 ms to import, which would stall all streams during the
        first chat of a provider.
        """
        for provider, adapter in self._adapters.items():
            if self._obstacle(provider) is None:
                import_module(adapter.module)

    async def close(self) -> None:
        providers, self._providers, self._held = self._providers, {}, {}
        for provider in providers.values():
            await provider.close()

    def _made(self, name: str) -> Model:
        provider, slash, model = name.partition("/")
        adapter = self._adapters.get(provider)
        if adapter is None or not slash or not _is_name(model):
            raise ModelNotFound(Violation("model", self._advice(name)), models=tuple(self.names()))
        obstacle = self._obstacle(provider)
        if obstacle is not None:
            return UnusableModel(name, provider, obstacle)
        if provider not in self._providers:
            factory = cast("Factory", getattr(import_module(adapter.module), adapter.factory))
            self._providers[provider] = factory(self._of(provider), self._clock)
        return self._providers[provider].model(model)

    def _obstacle(self, provider: str) -> ErrorKind | None:
        settings = self._of(provider)
        if not settings.is_enabled:
            return ErrorKind.PROVIDER_DISABLED
        if self._adapters[provider].needs_key and not settings.api_key:
            return ErrorKind.MISSING_KEY
        return None

    def _of(self, provider: str) -> ProviderSettings:
        return self._settings.get(provider, ProviderSettings())

    def _advice(self, name: str) -> str:
        examples = ", ".join(self.names()) or "none: no provider is enabled"
        shown = name[:MODEL_NAME_CHARACTERS_MAX]
        return f'no model {shown!r}; a name is "provider/model", for example {examples}'


class UnusableModel:
    """A model that the configuration makes unusable; every call fails with the reason."""

    def __init__(self, name: str, provider: str, obstacle: ErrorKind) -> None:
        self._name = name
        self._provider = provider
        self._obstacle = obstacle

    @property
    def name(self) -> str:
        return self._name

    @property
    def provider(self) -> str:
        return self._provider

    @property
    def context_limit(self) -> None:
        return None

    def conversation(self) -> Conversation:
        return self

    async def stream(self, request: ModelRequest) -> AsyncIterator[AnswerPart]:  # noqa: ARG002  it always fails
        """Raise ModelFailure."""
        raise failure(
            self._obstacle, _WORDS[self._obstacle].format(self._provider), provider=self._provider
        )
        yield  # type: ignore[unreachable]  # makes this a generator, as the port requires


_WORDS = {
    ErrorKind.MISSING_KEY: "No API key is configured for {}.",
    ErrorKind.PROVIDER_DISABLED: "{} is disabled on this server.",
}


def _is_name(model: str) -> bool:
    return 0 < len(model) <= MODEL_NAME_CHARACTERS_MAX and model.isprintable() and " " not in model
