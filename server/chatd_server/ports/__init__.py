"""Every seam of chatd, as Protocols. What is behind them is decided in `app`, and only there."""
