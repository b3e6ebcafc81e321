"""Why a database cannot be opened. Each message says what to do."""


class StoreError(Exception):
    """The database cannot be used by this server as it is."""


class NoDatabase(StoreError):
    """The database file does not exist."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no database {path}: start a server with 'chatd serve', which makes it, or"
            " name another one with --home or --database-url"
        )


class DatabaseInUse(StoreError):
    """Another process holds the database file: a server, or one that `migrates` it."""

    def __init__(self, path: str, holder: str, *, migrates: bool = False) -> None:
        who = f" (process {holder})" if holder else ""
        super().__init__(
            f"another process{who} migrates the database {path}, and has not finished: wait until"
            " it ends, then try again"
            if migrates
            else f"another server{who} uses the database {path}: stop it, or give this one another"
            " file; several servers share a PostgreSQL, never a file"
        )
        self.migrates = migrates


class SchemaOutdated(StoreError):
    """The database has an older schema."""

    def __init__(self, found: str | None, wanted: str) -> None:
        super().__init__(
            f"the database has schema {found or 'none'} and this chatd needs {wanted}: run"
            " 'chatd migrate' once, while no older server runs"
        )


class SchemaTooNew(StoreError):
    """A newer chatd migrated the database."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"the database has schema {found}, which this chatd (schema {wanted}) does not know:"
            " update chatd; a database is never migrated back"
        )


class SqliteTooOld(StoreError):
    """The SQLite of this Python lacks functions that chatd needs."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(
            f"this Python has SQLite {found}, and chatd needs {wanted} or newer: use a newer"
            " Python, or PostgreSQL"
        )


class NotADatabase(StoreError):
    """The file is not a database of SQLite, or it is damaged."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is not an SQLite database, or it is damaged; it was not changed. Name another"
            " file, or restore this one from a backup"
        )
