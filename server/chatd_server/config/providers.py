"""The vendors of models."""

from typing import Annotated

import msgspec
from msgspec import Meta


class ProvidersConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The vendors of models."""

    anthropic_api_key: Annotated[
        str, Meta(description="Key for models of Anthropic.", extra={"secret": True})
    ] = ""
    anthropic_base_url: Annotated[
        str, Meta(description="Another address for Anthropic's API; empty: Anthropic's own.")
    ] = ""
