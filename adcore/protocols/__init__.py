"""Protocols: which images a model is fitted on, and which it is judged on. One file each."""
