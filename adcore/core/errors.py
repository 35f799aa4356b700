"""The error that a wrong plan ends in."""


class PlanError(Exception):
    """The plan cannot be used; the message names the file, the key and the mend."""
