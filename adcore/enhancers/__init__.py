"""Enhancers adapt the feature extractor on normal images; `a+b` chains them. `none` is the empty chain."""

from __future__ import annotations

from adcore.plan import Choice, PlanError, known


def chain(choice: Choice) -> tuple[str, ...]:
    """The enhancers of a plan entry in order. Raises PlanError for an unknown one or an unknown option."""
    from adcore import registry

    names = registry.modules("enhancers")
    parts = tuple(part for part in choice.name.split("+") if part != "none")
    try:
        for part in parts:
            known(part, ["none", *names], "enhancer")
        for key in choice.options:
            known(key, [], f"option of enhancer '{choice.name}'")
    except ValueError as error:
        raise PlanError(str(error)) from None
    return parts
