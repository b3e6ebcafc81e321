"""The batch of tools: what runs, and what each call results in."""
