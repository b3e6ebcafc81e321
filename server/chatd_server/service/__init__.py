"""The use cases: what a caller can ask for, in words of the domain, on the ports alone."""
