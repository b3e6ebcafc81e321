"""The model call: the prompt, the stream, the draft of the answer, retries."""
