"""Compaction: a summary takes the place of the context before it."""
