"""The store of one process: one SQLite file, one writer thread with group commit, a few readers."""
