"""Errors of SQLite, as the operator of the server needs them: with what to do."""

import sqlite3

from chatd_server.domain.refusal import DatabaseUnavailable

_ADVICE = (
    (
        "SQLITE_FULL",
        "the disk of the database is full: make room; chatd needs no restart",
    ),
    ("SQLITE_BUSY", "another program holds the database file: close it"),
    ("SQLITE_LOCKED", "another program holds the database file: close it"),
    ("SQLITE_READONLY", "the database file cannot be written: check its owner and its disk"),
    ("SQLITE_CANTOPEN", "the database file cannot be opened: check its folder and its owner"),
    # The index of the log is made at the first use of a file: on a full disk this comes first.
    ("SQLITE_IOERR_SHM", "the disk of the database is full, or it fails: make room, or check it"),
    ("SQLITE_IOERR", "the disk of the database fails: check it, and the system's log"),
    ("SQLITE_CORRUPT", "the database file is damaged: restore it from a backup"),
    ("SQLITE_NOTADB", "the file is not a database: restore it from a backup"),
)
_DEFECTS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError)
"""Defects of chatd, not failures of the database."""


def translated(error: Exception) -> Exception:
    """Return DatabaseUnavailable for an error of the database, and any other error as it is."""
    if not isinstance(error, sqlite3.Error) or isinstance(error, _DEFECTS):
        return error
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    advice = next((advice for prefix, advice in _ADVICE if name.startswith(prefix)), "")
    text = advice or f"the database refused the work ({name}: {error})"
    result = DatabaseUnavailable(f"{text}; nothing was written")
    result.__cause__ = error
    return result
