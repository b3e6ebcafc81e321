"""One real conversation through every promise of chatd: what `make run` shows.

Nothing is staged: a server process as users start it, on the embedded store, and the client
library that users get. Each act is checked against ListMessages.
"""
