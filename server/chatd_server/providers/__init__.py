"""Adapters of model vendors: strangers to each other, imported when first used."""
