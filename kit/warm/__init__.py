"""Warm kernels: a server that has imported a stage's libraries forks a kernel for each execution (Linux only).

Truth first: a kernel is forked only where it is what a new interpreter would be after the same imports; whatever cannot be
made so is refused with a sentence, and the caller starts a cold one.

    client ── asks ──> server ── forks ──> kernel        (the server has imported the libraries, and waits)
                          │
                        guard                            (a small process that ends the kernels if the server is killed)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kit.errors import WarmUnavailableError
    from kit.warm.client import Forked, fork_kernel
    from kit.warm.servers import Server, list_servers, stop_servers

__all__ = ["Forked", "Server", "WarmUnavailableError", "fork_kernel", "list_servers", "stop_servers"]

_HOMES = {
    "Forked": "kit.warm.client",
    "Server": "kit.warm.servers",
    "WarmUnavailableError": "kit.errors",
    "fork_kernel": "kit.warm.client",
    "list_servers": "kit.warm.servers",
    "stop_servers": "kit.warm.servers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
