"""What both databases decide alike: rows, records, owners, sweeps, pages. Pure but for the files
of the migrations.
"""
