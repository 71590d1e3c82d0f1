"""Profiles on another machine: the artifact travels there, the profile comes back in all its forms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhcc.tuning.measure import WorkerLost
from lhcc.tuning.remote import RemoteError, RemoteLink

PROFILE_S = 300.0


@dataclass(frozen=True)
class RemoteProfile:
    """What `Executable.profile` said over there."""

    forms: Mapping[str, Any]

    def json(self) -> dict[str, Any]:
        return dict(self.forms["data"])

    def csv(self) -> str:
        return str(self.forms["csv"])

    def html(self, _pictures: Mapping[str, str] | None = None) -> str:
        return str(self.forms["html"])

    def trace(self) -> str:
        return str(self.forms["trace"])

    def __str__(self) -> str:
        return str(self.forms["text"])


def profile_remotely(artifact: bytes, rpc: str, key: str = "", repeats: int | None = None) -> RemoteProfile:
    """Profiles the bytes of an .lhcc file, on random inputs."""
    link = RemoteLink(rpc, key)
    try:
        status, answer = link.ask(("profile", artifact, repeats), PROFILE_S)
    except WorkerLost as error:
        raise RemoteError(f"profiling at {rpc} failed: {error}") from None
    finally:
        link.close()
    if status != "ok":
        raise RemoteError(f"profiling at {rpc} failed: {answer}")
    return RemoteProfile(answer)
