"""How the files of a data set are read: options of its entry in the plan, which the manifest holds as a short text.

The text has only what differs from the default, so that an option nobody uses is in no key.
"""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict


class Rule(BaseModel):
    """Options; each has a default and a value without spaces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def text(self) -> str:
        """Such as `threshold=0.5 fit=pad`; "" where everything is by default."""
        return " ".join(f"{name}={value}" for name, value in self.model_dump(exclude_defaults=True).items())

    @classmethod
    def of(cls, text: str) -> Self:
        """The rule that has this text."""
        return cls.model_validate(dict(word.split("=", 1) for word in text.split()))
