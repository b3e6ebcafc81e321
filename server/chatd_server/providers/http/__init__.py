"""HTTP to vendors: connections, server-sent events, silence timeouts."""
