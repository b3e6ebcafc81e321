"""What both databases decide alike, as pure functions: rows, records, owners, sweeps, pages."""
