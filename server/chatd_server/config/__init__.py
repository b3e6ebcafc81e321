"""Settings of the server: what there is, and where each value comes from."""
