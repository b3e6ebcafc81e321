"""The turn: its loop, its next action, the held chat, and stops."""
