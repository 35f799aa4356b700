"""Which code makes each artifact: what stands in its key beside its content, options and seed.

Each function gives a digest of all definitions that the step can reach (see adcore.core.sources), without those that
carry results and make none.
"""

from __future__ import annotations

from adcore.core.keys import code
from adcore.engine import registry

COMPUTER = "adcore.engine.compute:Computer"
JUDGE = f"{COMPUTER}._judge"  # scores test images within a fit, where its options select by that
METHOD = f"{COMPUTER}._method"
FITTED = f"{COMPUTER}._fitted"
# What comes in from outside of a step: methods of these are called in it.
GIVEN = (
    "adcore.core.plan:ImageSpec",
    "adcore.core.plan:BackboneSpec",
    "adcore.core.contracts:Link",
    "adcore.core.contracts:Threshold",
)
CARRIERS = (
    "adcore.core.store",
    "adcore.core.disk",
    "adcore.core.costs",
    "adcore.core.keys",
    "adcore.engine.identity",
    "adcore.engine.registry",
)


def features() -> str:
    """Of an image set through a backbone; that of its enhancers is in their own keys."""
    return code(f"{COMPUTER}.extract", *GIVEN, outside=CARRIERS)


def enhancer(cls: type, wants_host: bool) -> str:
    """Of a trained enhancer. wants_host: a method's own loss trains it."""
    return code(_name(cls), f"{COMPUTER}.enhance", *GIVEN, outside=(*CARRIERS, JUDGE if wants_host else METHOD))


def fit(method: type, selects: bool) -> str:
    """Of a fitted method. selects: the fit looks at test images."""
    return code(_name(method), f"{COMPUTER}.fit", *GIVEN, outside=CARRIERS if selects else (*CARRIERS, JUDGE))


def maps(method: type) -> str:
    """Of anomaly maps and image scores."""
    return code(_name(method), f"{COMPUTER}.score", *GIVEN, outside=(*CARRIERS, JUDGE))


def calibration(method: type) -> str:
    """Of the scores of unseen normal images."""
    calibrate = "adcore.engine.calibration:Calibrator.calibrate"
    return code(_name(method), calibrate, *GIVEN, outside=(*CARRIERS, JUDGE))


def cell() -> str:
    """Of all metrics, curves and the table of images."""
    metrics = sorted(_name(type(metric)) for metric in registry.metrics().values())
    return code(f"{COMPUTER}._judged", f"{COMPUTER}._write_cell", *metrics, *GIVEN, outside=CARRIERS)


def gallery() -> str:
    """Of the pictures of the hardest images."""
    return code(f"{COMPUTER}._judged", f"{COMPUTER}._write_gallery", *GIVEN, outside=CARRIERS)


def latency(method: type) -> str:
    """Of milliseconds, parameters and multiply-accumulates, whatever the fit learned."""
    return code(_name(method), f"{COMPUTER}.latency", *GIVEN, outside=(*CARRIERS, FITTED))


def efficiency(method: type) -> str:
    """Of parameters, multiply-accumulates and throughput without a fit."""
    return code(_name(method), "adcore.engine.efficiency:measure", *GIVEN, outside=CARRIERS)


def validation() -> str:
    """Of what is found wrong with the files of a data set."""
    return code("adcore.datasets.validation:validate", outside=CARRIERS)


def sight() -> str:
    """Of what an image size loses of the masks."""
    return code("adcore.datasets.sight:losses", outside=CARRIERS)


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
