"""Thin Prefect tasks: one adcore call each."""
