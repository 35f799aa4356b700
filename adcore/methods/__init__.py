"""Anomaly-detection methods: one file each, found by name; `base` holds what they share."""
