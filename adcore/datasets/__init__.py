"""Datasets: one module a kind, and beside them the manifest, the validation and what kinds share."""

HELPERS = ("base", "data_docs", "layout", "manifest", "validation")  # modules that are no kind
