"""The turn: its loop, what is owed next, the chat that is held, and stops."""
