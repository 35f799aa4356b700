"""The errors that a wrong plan, and a store that machines share, end in."""


class PlanError(Exception):
    """The plan cannot be used; the message names the file, the key and the mend."""


class RemoteError(Exception):
    """The store of ADCORE_STORE, or --store, cannot be used at all: one sentence without credentials."""


class RemoteGone(Exception):
    """It could be used, and now it does not answer, or refuses: one sentence without credentials."""
