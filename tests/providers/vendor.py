"""A vendor that only tests know; the registry imports this file as an adapter."""

from chatd_server.ports import Clock, Conversation, Model
from chatd_server.providers.settings import ProviderSettings


class VendorModel:
    """A model that holds a connection."""

    def __init__(self, model: str, settings: ProviderSettings) -> None:
        self.model = model
        self.settings = settings
        self.is_closed = False

    @property
    def name(self) -> str:
        """Return "vendor/model"."""
        return f"vendor/{self.model}"

    @property
    def provider(self) -> str:
        """Return "vendor"."""
        return "vendor"

    def conversation(self) -> Conversation:
        """Nobody asks for one here."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the connection."""
        self.is_closed = True


def vendor_model(model: str, settings: ProviderSettings, clock: Clock) -> Model:  # noqa: ARG001  the signature of every factory
    """Return a model of a vendor that only this test knows."""
    return VendorModel(model, settings)
