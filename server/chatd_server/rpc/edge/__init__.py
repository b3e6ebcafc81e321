"""What every request passes through, whichever RPC it is."""
