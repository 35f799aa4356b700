"""Prefect flows: wiring only. `python -m flows.NAME --plan FILE [--workspace DIR]`."""

from flows._start import configure

configure()
