"""The tools that chatd brings along, one small file each."""
