"""A store that several machines share: a bucket, or a folder, with one object an artifact, ROOT/KIND/KEY.tar.

An object is put at once and only where there is none, so it is whole or absent, and the first writer's stays. Whoever
fetches one checks it. No machine waits for another.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import tarfile
import tempfile
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from adcore.core.disk import is_full, room
from adcore.core.errors import RemoteError, RemoteGone
from adcore.core.store import META, intact

VARIABLE = "ADCORE_STORE"  # of the environment: the URL, for this process and those that it starts
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "file": "", "memory": ""}  # scheme -> what fsspec wants for it
FORMS = "s3://BUCKET/FOLDER, gs://BUCKET/FOLDER, az://CONTAINER/FOLDER or file:///FOLDER"
CREDENTIALS = "environment variables (AWS_ACCESS_KEY_ID and so on), or a file of theirs in your home"
SUFFIX = ".tar"
SECONDS = 15  # until a bucket that is asked for the first time has to have answered
# Of S3: attempts, seconds to connect, seconds without a byte. Waits between attempts double: twenty seconds of "slow
# down" are sat out, and a bucket that is gone for good is given up within a minute or so.
PATIENT, BRIEF = (7, 5, 30), (2, 3, 5)
TAKEN = (409, 412)  # HTTP: another one is putting it, or has
ALONE = threading.Lock()  # memory:// asks whether an object is there, and puts it afterwards

Answer = TypeVar("Answer")


def configured() -> Remote | None:
    """The shared store that the environment names, if any. Raises RemoteError."""
    return remote(os.environ.get(VARIABLE, ""))


@functools.lru_cache(maxsize=8)
def remote(url: str) -> Remote | None:
    """The shared store at a URL, the same one throughout a process; none for "". Raises RemoteError."""
    return Remote(url) if url else None


class Remote:
    """A shared store by its URL. Nothing is asked before `check`, or the first use. Raises RemoteError."""

    def __init__(self, url: str) -> None:
        self.shown = masked(url)
        self._scheme = _scheme(url)
        self._url = url
        self._root = ""
        self._systems: dict[bool, Any] = {}
        self._answers = True  # False since a request failed: then it is asked with little patience, until one succeeds
        self._checked = False

    def check(self) -> None:
        """Raise RemoteError unless objects can be put here, but not twice, and be removed and listed; asked once."""
        if self._checked:
            return
        failed: list[Exception] = []

        def probe() -> None:
            try:
                self._probe()
            except Exception as error:
                failed.append(error)

        # In a thread, because each library has timeouts and retries of its own.
        asking = threading.Thread(target=probe, daemon=True)
        asking.start()
        asking.join(SECONDS)
        if asking.is_alive():
            raise RemoteError(f"the store {self.shown} cannot be used: it has not answered within {SECONDS} seconds")
        if failed:
            reason = failed[0] if isinstance(failed[0], RemoteError) else self._reason(failed[0])
            raise RemoteError(f"the store {self.shown} cannot be used: {reason}") from failed[0]
        self._checked = self._answers = True

    def keys(self, kind: str) -> frozenset[str]:
        """The keys of all artifacts of a kind, by one listing. Raises RemoteGone."""

        def listed(system: Any) -> list[str]:
            system.invalidate_cache()
            found: list[str] = system.ls(f"{self._root}/{kind}", detail=False)
            return found

        try:
            names = self._ask(listed)
        except FileNotFoundError:
            return frozenset()
        return frozenset(name.rpartition("/")[2].removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))

    def has(self, kind: str, key: str) -> bool:
        """Whether there is an object of that name. Raises RemoteGone."""
        return bool(self._ask(lambda system: system.exists(self._object(kind, key))))

    def push(self, kind: str, key: str, folder: Path, part: Path) -> bool:
        """Put the artifact in `folder`, by way of the file `part`: whether it was put, and nobody was first.

        Raises RemoteGone, DiskFull."""
        with room(part.parent, sum(file.stat().st_size for file in folder.iterdir())):
            _pack(folder, part)
        try:
            self._ask(lambda system: self._put(system, part, self._object(kind, key)))
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            raise self.gone(self._reason(error)) from error
        finally:
            part.unlink(missing_ok=True)
        return True

    def pull(self, kind: str, key: str, folder: Path, part: Path) -> bool:
        """Fetch an artifact into the empty `folder`, by way of the file `part`: whether it was there. A damaged one is
        not there, and is removed. Raises RemoteGone, DiskFull."""
        with room(part.parent):
            try:
                self._ask(lambda system: system.get_file(self._object(kind, key), str(part)))
            except FileNotFoundError:
                return False
            sound = _unpack(part, folder) and _is_of(folder, kind, key) and intact(folder)
            part.unlink()
        if not sound:
            with contextlib.suppress(FileNotFoundError):
                self._ask(lambda system: system.rm_file(self._object(kind, key)))
        return sound

    def gone(self, reason: str) -> RemoteGone:
        """The error for a store that does not do as it should."""
        mend = "what was computed stays in this workspace, and is put there by the next run that reaches it"
        return RemoteGone(f"the store {self.shown} cannot be used any more: {reason}; {mend}")

    def _object(self, kind: str, key: str) -> str:
        return f"{self._root}/{kind}/{key}{SUFFIX}"

    def _ask(self, request: Callable[[Any], Answer]) -> Answer:
        """What the file system answers. Raises FileNotFoundError and FileExistsError, which are answers; RemoteGone for
        all else, whatever each vendor's library may raise."""
        try:
            found = request(self._system(brief=not self._answers))
        except (FileNotFoundError, FileExistsError):
            self._answers = True
            raise
        except Exception as error:
            if is_full(error):
                raise
            if _status(error) in TAKEN:
                raise FileExistsError from error
            self._answers = False
            raise self.gone(self._reason(error)) from error
        self._answers = True
        return found

    def _system(self, brief: bool) -> Any:
        """fsspec's file system, made when it is first asked. Raises RemoteError for a package that is not there."""
        if brief not in self._systems:
            from fsspec.core import url_to_fs

            options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
            if self._scheme == "s3":
                attempts, connect, read = BRIEF if brief else PATIENT
                retries = {"mode": "standard", "max_attempts": attempts}
                options["config_kwargs"] = {"retries": retries, "connect_timeout": connect, "read_timeout": read}
            try:
                system, root = url_to_fs(self._url, **options)
            except ImportError:
                package = PACKAGES[self._scheme]
                raise RemoteError(
                    f"{self._scheme}:// needs the package {package}; run `pip install {package}`"
                ) from None
            if self._scheme == "s3":
                system.retries = 1 if brief else 2  # its own, of broken connections, around those of botocore
            self._root = root.rstrip("/")
            self._systems[brief] = system
        return self._systems[brief]

    def _put(self, system: Any, part: Path, target: str) -> None:
        """Put a file where there is none, at once. Raises FileExistsError."""
        # Never through `open(target, "wb")`: it puts half a file where its block raises.
        if self._scheme == "file":
            _link(part, Path(target))
            return
        with ALONE if self._scheme == "memory" else contextlib.nullcontext():
            system.put_file(str(part), target, mode="create")

    def _probe(self) -> None:
        """Put one small object twice, remove it, and list the rest. Raises RemoteError, and what libraries raise."""
        system = self._system(brief=True)
        if self._scheme == "file" and not Path(self._root).is_dir():
            raise RemoteError(f"there is no folder {self._root}; mount it, or make it")
        name = f"{self._root}/probe/{uuid.uuid4().hex}"
        with tempfile.NamedTemporaryFile(suffix=".probe") as file:
            file.write(b"whether adcore may write here")
            file.flush()
            self._put(system, Path(file.name), name)
            try:
                self._put(system, Path(file.name), name)
            except Exception as error:
                if not isinstance(error, FileExistsError) and _status(error) not in TAKEN:
                    raise
            else:
                raise RemoteError("it lets an object be overwritten, where it was asked not to (If-None-Match)")
            finally:
                system.rm_file(name)
        with contextlib.suppress(FileNotFoundError):
            system.ls(f"{self._root}/probe", detail=False)

    def _reason(self, error: Exception) -> str:
        """Why a request failed, and the mend, in part of a sentence."""
        text = masked((str(error) or type(error).__name__).strip().splitlines()[0]).rstrip(".")
        if isinstance(error, FileNotFoundError):
            return f"there is no such {'folder' if self._scheme == 'file' else 'bucket'} ({text})"
        if isinstance(error, PermissionError):
            return f"it refuses us ({text}); who runs adcore must be allowed to list, read, write and delete there"
        if "credential" in type(error).__name__.lower() or "credentials" in text.lower():
            return f"{text}; give them in {CREDENTIALS}"
        return text


def masked(text: str) -> str:
    """A text in which user and password of a URL, what stands behind its `?`, and this environment's keys are `***`."""
    for name, value in os.environ.items():
        if len(value) >= 8 and name.startswith(("AWS_", "AZURE_", "GOOGLE_")) and _SECRET.search(name):
            text = text.replace(value, "***")
    return re.sub(r"\?[^\s\"']+", "?***", re.sub(r"://[^\s\"']*@", "://***@", text))


_SECRET = re.compile("KEY|SECRET|TOKEN|PASSWORD|CONNECTION_STRING|CREDENTIAL")


def _scheme(url: str) -> str:
    """Of a URL that can be one of a store. Raises RemoteError."""
    scheme, colon, rest = url.partition("://")
    if not colon or scheme not in PACKAGES:
        raise RemoteError(f"the store {masked(url)} cannot be used: it has to be {FORMS}")
    if "@" in rest or "?" in rest:
        raise RemoteError(
            f"the store {masked(url)} cannot be used: no credentials in a URL; give them in {CREDENTIALS}"
        )
    if scheme == "file" and not rest.startswith("/"):
        raise RemoteError(f"the store {url} cannot be used: its path has to begin at the root, file:///FOLDER")
    if not rest.strip("/"):
        raise RemoteError(f"the store {url} cannot be used: it names no bucket or folder; it has to be {FORMS}")
    return scheme


def _status(error: BaseException) -> int:
    """The HTTP status that a library was answered with, or 0. (Servers word the same refusal differently.)"""
    answer = getattr(error.__cause__ or error, "response", None)
    facts = answer.get("ResponseMetadata", {}) if isinstance(answer, dict) else {}
    return int(facts.get("HTTPStatusCode", 0))


def _link(part: Path, target: Path) -> None:
    """Copy a file beside its target and give it that name, which fails where there is one. Raises FileExistsError."""
    with room(target.parent, part.stat().st_size):
        target.parent.mkdir(exist_ok=True)  # not the root: a file system that is not mounted would be written beside
        copy = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            shutil.copyfile(part, copy)
            os.link(copy, target)
        finally:
            copy.unlink(missing_ok=True)


def _pack(folder: Path, part: Path) -> None:
    """The files of a folder as a tar, the same bytes for the same files."""
    with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.iterdir()):
            member = tarfile.TarInfo(path.name)
            member.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(member, file)


def _unpack(part: Path, folder: Path) -> bool:
    """Whether a tar holds plain files with plain names, and nothing else; they are put into `folder`."""
    folder.mkdir(exist_ok=True)
    try:
        with tarfile.open(part, "r:") as tar:
            for member in tar:
                plain = member.isreg() and not member.issparse() and _is_plain(member.name)
                content = tar.extractfile(member) if plain else None
                if content is None:
                    return False
                with (folder / member.name).open("xb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, FileExistsError, ValueError):
        return False
    return True


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _is_of(folder: Path, kind: str, key: str) -> bool:
    """Whether a folder's meta.json is of that artifact, and names the files beside it and no others."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        names = {META, *meta["files"]}
        return (meta["kind"], meta["key"]) == (kind, key) and {path.name for path in folder.iterdir()} == names
    except (OSError, ValueError, KeyError, TypeError):
        return False
