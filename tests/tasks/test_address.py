"""MLFLOW_TRACKING_URI as it may be shown."""

import pytest

from tasks.tracking.address import Address

SHOWN = {
    "http://10.0.0.1:5000": "http://10.0.0.1:5000",
    "https://lab.example/mlflow/": "https://lab.example/mlflow",
    "http://me:secret@lab.example:5000": "http://lab.example:5000",
    "http://secret@lab.example": "http://lab.example",
    "http://me:se/secret@lab.example": "http://lab.example",
    "http://me:s@secret@lab.example": "http://lab.example",
    "http://me:a secret@lab.example": "http://lab.example",
    "https://lab.example?token=secret": "https://lab.example",
    "http://lab:lab@lab.example": "http://lab.example",
    "postgresql+psycopg2://me:secret@10.0.0.1:5432/mlflow": "postgresql+psycopg2://10.0.0.1:5432/mlflow",
    "postgresql://10.0.0.1/mlflow?user=me&password=secret": "postgresql://10.0.0.1/mlflow",
    "sqlite:////data/mlflow.db": "sqlite:////data/mlflow.db",
}


@pytest.mark.parametrize("uri", SHOWN)
def test_it_is_shown_without_credentials(uri):
    assert Address(uri).shown == SHOWN[uri] and "secret" not in repr(Address(uri))


@pytest.mark.parametrize("uri", [uri for uri in SHOWN if "secret" in uri])
@pytest.mark.parametrize("message", ["asked {} in vain", "({!r})", "{}/api/2.0/mlflow/runs/search: 500", "x\n{}\ny"])
def test_messages_are_told_without_credentials(uri, message):
    told = Address(uri).masked(message.format(uri))
    assert "secret" not in told and SHOWN[uri].rstrip("/") in told


def test_a_password_is_masked_wherever_it_stands() -> None:
    address = Address("postgresql://me:p%40ss%2Fword@host/db")
    assert address.masked("no such user me with p@ss/word or p%40ss%2Fword") == "no such user me with  or "


def test_other_addresses_are_masked_as_well() -> None:
    told = "see https://you:other@store.example/bucket?signature=other#top, and a@b.example"
    assert Address("http://lab").masked(told) == "see https://store.example/bucket and a@b.example"


@pytest.mark.parametrize(
    ("uri", "credentials"),
    [("http://h", ("", "")), ("http://me@h", ("me", "")), ("http://m%40e:p:%2Fw@h:1/p", ("m@e", "p:/w"))],
)
def test_credentials_are_read_as_a_uri_writes_them(uri, credentials):
    assert Address(uri).credentials == credentials


KINDS = {
    "http://h": "server",
    "HTTPS://h": "server",
    "sqlite:///x.db": "database",
    "postgresql+psycopg://h/d": "database",
}
KINDS |= {"mysql+pymysql://h/d": "database", "databricks": "", "h:5000": "", "file:///mlruns": "", "mlruns": ""}


@pytest.mark.parametrize("uri", KINDS)
def test_its_kind_is_told_by_its_scheme(uri):
    assert Address(uri).kind == KINDS[uri]
