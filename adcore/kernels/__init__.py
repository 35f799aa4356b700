"""Numerical kernels: fast, exact, each tested against a naive twin."""
