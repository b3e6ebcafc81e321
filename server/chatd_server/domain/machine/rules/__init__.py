"""The rules of the table, one file for each group of commands."""
