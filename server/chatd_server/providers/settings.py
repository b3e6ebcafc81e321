"""What a provider needs to be used; frozen, and handed to its adapter when it is first used."""

import msgspec


class ProviderSettings(msgspec.Struct, frozen=True):
    """One provider. `base_url` empty is the vendor's own address."""

    is_enabled: bool = True
    api_key: str = ""
    base_url: str = ""

    def __repr__(self) -> str:
        """Show everything but the key, and a URL only when it cannot hold a password."""
        key = "set" if self.api_key else "missing"
        url = "(hidden)" if "@" in self.base_url else self.base_url
        return f"ProviderSettings(is_enabled={self.is_enabled}, api_key={key}, base_url={url!r})"
