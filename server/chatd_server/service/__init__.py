"""The use cases: what a caller can ask for, in words of the domain, on the ports alone.

Each group of RPCs has its use cases in the file of the same name.
"""
