"""The agent: one turn, its model calls and its tools. No I/O of its own."""
