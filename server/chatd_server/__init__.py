"""The chatd server: a durable agent-chat service over gRPC."""
