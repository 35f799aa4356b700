"""Prefect flows: wiring only. `python -m flows.NAME --plan FILE [--workspace DIR]`."""

import sys

from flows import _start, _stopping

_start.configure()
if sys.argv[0] == "-m":  # a command; a worker, a test or a shell stops as it likes
    _stopping.listen()
