"""Measures the product beside a floor (its building blocks alone) and a naive stack."""
