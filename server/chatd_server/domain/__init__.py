"""Nouns and rules of chatd: pure values and pure functions; no I/O, no async."""
