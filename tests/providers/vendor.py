"""A vendor for tests only; the registry imports this file as an adapter."""

from chatd_server.ports.clock import Clock
from chatd_server.ports.models import Conversation
from chatd_server.providers.settings import ProviderSettings


class VendorProvider:
    """A vendor with one connection."""

    def __init__(self, settings: ProviderSettings, clock: Clock) -> None:  # noqa: ARG002  every adapter takes the same
        self.settings = settings
        self.is_closed = False

    def model(self, name: str) -> "VendorModel":
        """Return a model of any name."""
        return VendorModel(name, self)

    async def close(self) -> None:
        """Close the connection."""
        self.is_closed = True


class VendorModel:
    """A model that uses the connection of its vendor."""

    def __init__(self, model: str, vendor: VendorProvider) -> None:
        self.model = model
        self.vendor = vendor

    @property
    def name(self) -> str:
        """Return "vendor/model"."""
        return f"vendor/{self.model}"

    @property
    def provider(self) -> str:
        """Return "vendor"."""
        return "vendor"

    @property
    def context_limit(self) -> int | None:
        """Not known."""
        return None

    def conversation(self) -> Conversation:
        """Not used here."""
        raise NotImplementedError
