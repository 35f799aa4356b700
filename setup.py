"""Beside pyproject.toml, since setuptools can find packages or map folders there, not both: suites and printed numbers
come with the package (adcore/core/shipped.py)."""

from setuptools import find_packages, setup

SHIPPED = {"adcore._suites": "suites", "adcore._published": "published"}

setup(
    packages=[*find_packages(include=["adcore", "adcore.*", "tasks", "flows"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"adcore": ["**/*.j2", "py.typed"], "adcore._suites": ["*.yaml"], "adcore._published": ["**/*"]},
)
