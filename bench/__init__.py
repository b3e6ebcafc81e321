"""Compares the product with a floor (its building blocks alone) and a naive stack."""
