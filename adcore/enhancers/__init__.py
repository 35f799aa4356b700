"""Enhancers adapt the feature extractor on normal images: one file each."""
