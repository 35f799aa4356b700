"""Datasets: one module a kind, and beside them the manifest, the validation and what kinds share."""

HELPERS = (
    *("base", "layout", "manifest", "validation", "validation_page", "leaks", "cautions"),
    *("archives", "download", "getting", "probe_cache", "sight", "submission"),
)  # modules that are no kind
