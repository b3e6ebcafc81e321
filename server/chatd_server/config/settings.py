"""What a server is told when it starts: one section for each concern, one file for each section.

Every field has one line that says what it is; `chatd config show` and the docs print these
lines. The name of a section is in no setting: they are a flat list for those who set them.
"""

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import msgspec

from chatd_server.config.compaction import CompactionConfig
from chatd_server.config.database import DatabaseConfig
from chatd_server.config.providers import ProvidersConfig
from chatd_server.config.server import ServerConfig
from chatd_server.config.streams import StreamsConfig
from chatd_server.config.titles import TitlesConfig
from chatd_server.config.worker import WorkerConfig

ROOT_KEY_NAME = "root.key"
"""Name of the file in the home folder that holds the key of the first start."""

DATABASE_NAME = "chatd.db"
"""Name of the embedded database in the home folder."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a server, by section."""

    server: ServerConfig = ServerConfig()
    database: DatabaseConfig = DatabaseConfig()
    worker: WorkerConfig = WorkerConfig()
    streams: StreamsConfig = StreamsConfig()
    providers: ProvidersConfig = ProvidersConfig()
    compaction: CompactionConfig = CompactionConfig()
    titles: TitlesConfig = TitlesConfig()

    def __repr__(self) -> str:
        """Show nothing that is secret."""
        server = self.server
        return f"Config(home={server.home!r}, database={self.shown_database!r}, port={server.port})"

    @property
    def home_path(self) -> Path:
        return Path(self.server.home).expanduser()

    @property
    def root_key_path(self) -> Path:
        """The file with the key of the first start."""
        return self.home_path / ROOT_KEY_NAME

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.server.host in {"localhost", "::1"} or self.server.host.startswith("127.")

    @property
    def own_address(self) -> str:
        """How this machine reaches the server: host:port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.server.host, self.server.host)  # noqa: S104  read, not bound
        return f"[{host}]:{self.server.port}" if ":" in host else f"{host}:{self.server.port}"

    @property
    def is_postgres(self) -> bool:
        """Whether the database is PostgreSQL."""
        return self.database.database_url.startswith("postgres")

    @property
    def sqlite_path(self) -> Path:
        """The file of the embedded database; meaningless with PostgreSQL."""
        if self.database.database_url:
            return Path(self.database.database_url.removeprefix("sqlite:///")).expanduser()
        return self.home_path / DATABASE_NAME

    @property
    def shown_database(self) -> str:
        """The database for people: without a password."""
        if self.is_postgres:
            return without_password(self.database.database_url)
        return str(self.sqlite_path)


def without_password(url: str) -> str:
    """Return a URL that may be shown: without a password, wherever it stands."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{url.partition('://')[0]}://***"
    # By hand: the hosts may be several, which urllib cannot read.
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    netloc = f"{name}{':***' if colon else ''}{at}{hosts}"
    query = re.sub(r"(?i)(password=)[^&]*", r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=netloc, query=query))
