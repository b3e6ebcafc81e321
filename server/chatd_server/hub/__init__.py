"""Connects answers in progress with their readers: overlays, positions, and no queue between."""
