"""Who works on what, and for how long: acquiring, leases, rescue, drain."""
