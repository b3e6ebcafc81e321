"""Measures the product beside a floor (the same building blocks, nothing else) and a naive stack."""
