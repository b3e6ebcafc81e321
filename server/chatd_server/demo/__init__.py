"""The conversation of `make run`: it proves each promise of chatd.

It uses a real `chatd serve` process, the embedded store and the public client library. Each act is
checked against ListMessages.
"""
