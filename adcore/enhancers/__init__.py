"""Enhancers adapt the feature extractor on normal images. There is none yet but `none`."""

from __future__ import annotations

from adcore.plan import Choice, PlanError, known


def chain(choice: Choice) -> tuple[str, ...]:
    """The enhancers of a plan entry in order. Raises PlanError for an unknown one or an unknown option."""
    try:
        known(choice.name, ["none"], "enhancer")
        for key in choice.options:
            known(key, [], "option of enhancer none")
    except ValueError as error:
        raise PlanError(str(error)) from None
    return ()
