"""Where answers in progress meet their readers: overlays, positions, and no queue in between."""
