"""Writes what a new SQLite file begins with, from the migrations."""

import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "server" / "chatd_server" / "store" / "sqlite" / "new_file.sql"

HEAD = "-- Generated from the migrations by `make docs`; write a migration instead of editing it.\n"


def page() -> str:
    """Return what the file has to be."""
    sys.path[:0] = [str(ROOT / "server")]
    from chatd_server.store.sqlite.migrate import upgrade_file  # noqa: PLC0415  needs the path above

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chatd.db"
        upgrade_file(path)
        with closing(sqlite3.connect(path)) as connection:
            # The first and the last line begin and end a transaction.
            return HEAD + "\n".join(list(connection.iterdump())[1:-1]) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
