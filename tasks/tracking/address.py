"""MLFLOW_TRACKING_URI: what kind of place it names, and how it is told without its credentials."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

SERVERS = ("http", "https")
DATABASES = ("postgresql", "mysql", "mssql", "sqlite")
URI = re.compile(r"""([a-zA-Z][\w+.-]*://)(?:[^\s'"<>]*@)?([^\s'"<>?\#]*)(?:[?\#][^\s'"<>]*)?""")


@dataclass(frozen=True)
class Address:
    """A URI as it was set. Only `shown` and what `masked` gives may be printed, logged, tagged or linked to."""

    uri: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The URI without credentials and query."""
        scheme, rest = self._parts
        return URI.sub(r"\1\2", scheme + rest.rpartition("@")[2]).rstrip("/")

    @property
    def kind(self) -> str:
        """`server`, `database`, or "" for what is neither."""
        scheme = self.uri.partition("://")[0].partition("+")[0].lower()
        return "server" if scheme in SERVERS else "database" if scheme in DATABASES else ""

    @property
    def credentials(self) -> tuple[str, str]:
        """User and password; "" for what the URI does not have."""
        user, _, password = self._authority.partition(":")
        return unquote(user), unquote(password)

    def masked(self, text: str) -> str:
        """The text without the credentials of this URI, and of any other that stands in it; queries, which may hold
        some, too."""
        password = self._authority.partition(":")[2]
        for secret in (f"{self._authority}@", password, unquote(password)):
            text = text.replace(secret, "") if secret.strip("@") else text
        return URI.sub(r"\1\2", text)

    @property
    def _authority(self) -> str:
        # Up to the last @, since a password may hold some, as it may hold a slash.
        return self._parts[1].rpartition("@")[0]

    @property
    def _parts(self) -> tuple[str, str]:
        scheme, mark, rest = self.uri.partition("://")
        return (scheme + mark, rest) if mark else ("", self.uri)
