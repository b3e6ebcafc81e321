"""The batch of tools: which calls run, and the result of each."""
