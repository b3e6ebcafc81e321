"""Who writes the titles of chats."""

from typing import Annotated

import msgspec
from msgspec import Meta


class TitlesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes the titles of chats."""

    title_model: Annotated[
        str,
        Meta(
            description='"provider/model" that writes titles; empty: the model of the chat.',
            pattern=r"^([^/\s]+/\S+)?$",
        ),
    ] = ""
