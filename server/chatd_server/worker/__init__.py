"""Which worker runs which chat, and for how long: acquisition, leases, rescue, drain."""
