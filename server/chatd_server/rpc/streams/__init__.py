"""RPCs that answer with a stream."""
