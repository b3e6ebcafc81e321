"""The built-in tools, one small file each."""
