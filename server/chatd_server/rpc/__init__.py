"""gRPC: bytes in, use cases called, bytes out. The only package that knows the wire."""
