"""Exact image and pixel metrics of anomaly detection, one file each, found by name; definitions in docs/metrics.md."""

from adcore.metrics._curves import curves
from adcore.metrics._image import ImageRanking, image_metrics
from adcore.metrics._pixel import PixelRanking, Pixels, pixel_metrics
from adcore.metrics._ranking import Ranking
from adcore.metrics.spro import spro

__all__ = ["ImageRanking", "PixelRanking", "Pixels", "Ranking", "curves", "image_metrics", "pixel_metrics", "spro"]
