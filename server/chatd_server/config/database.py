"""Where the chats are."""

from typing import Annotated

import msgspec
from msgspec import Meta


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chats are."""

    database_url: Annotated[
        str,
        Meta(
            description="postgresql://... or sqlite:///path; empty: chatd.db in the home folder.",
            pattern=r"^(|postgres(ql)?://.+|sqlite:///.+)$",
            extra={"secret": True},
        ),
    ] = ""
    migrate: Annotated[
        bool, Meta(description="Migrate a PostgreSQL schema at start; SQLite always is.")
    ] = False
    postgres_connections: Annotated[
        int, Meta(description="Connections to PostgreSQL for writes; four more read.", ge=1, le=200)
    ] = 8
