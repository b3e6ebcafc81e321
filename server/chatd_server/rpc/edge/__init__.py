"""What every request passes, whichever RPC it is."""
