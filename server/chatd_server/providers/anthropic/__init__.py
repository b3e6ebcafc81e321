"""The Anthropic Messages dialect: encode a request, decode a stream, name a failure."""
