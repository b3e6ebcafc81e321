"""The databases: SQLite in one process, PostgreSQL for several. Behind `ports.Store`."""
