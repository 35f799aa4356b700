"""Exact image and pixel metrics of anomaly detection; definitions in docs/metrics.md."""

from adcore.metrics.curves import curves
from adcore.metrics.image import image_metrics
from adcore.metrics.pixel import pixel_metrics
from adcore.metrics.spro import spro

__all__ = ["curves", "image_metrics", "pixel_metrics", "spro"]
