"""Adapters of model vendors: independent of each other, each imported on first use."""
