"""The store on PostgreSQL: raw asyncpg connections, one statement for each commit."""
