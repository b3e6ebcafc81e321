"""Where the server lives, listens and logs."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server lives, listens and logs."""

    home: Annotated[
        str, Meta(description="Folder of the root key, the settings file and the database.")
    ] = ""
    host: Annotated[
        str, Meta(description="Address to listen on.", min_length=1, max_length=253)
    ] = "127.0.0.1"
    port: Annotated[int, Meta(description="Port to listen on; 0: a free one.", ge=0, le=65535)] = (
        7410
    )
    reuse_port: Annotated[
        bool, Meta(description="Share the port with other servers of this machine.")
    ] = False
    drain_seconds: Annotated[
        float, Meta(description="How long running turns may finish at a stop.", ge=0, le=3600)
    ] = 20.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="info: each RPC and each end of a turn; debug: each step of a turn, too."),
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"], Meta(description="json: one object per line; text: for people.")
    ] = "json"
