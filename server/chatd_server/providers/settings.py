"""The settings of a provider; immutable, and given to its adapter on first use."""

import msgspec


class ProviderSettings(msgspec.Struct, frozen=True):
    """One provider. An empty `base_url` means the vendor's own address."""

    is_enabled: bool = True
    api_key: str = ""
    base_url: str = ""

    def __repr__(self) -> str:
        """Show everything but the key, and the URL only if it cannot contain a password."""
        key = "set" if self.api_key else "missing"
        url = "(hidden)" if "@" in self.base_url else self.base_url
        return f"ProviderSettings(is_enabled={self.is_enabled}, api_key={key}, base_url={url!r})"
