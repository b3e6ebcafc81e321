"""One turn: what is owed, the model's stream, the tools, retries and stops. No I/O of its own."""
