"""A fork server's process. Run by path in a new interpreter, never imported.

The process that a client starts ends at once and leaves two that belong to no client: the guard, which imports nothing, and
the server. In each kernel that is forked `serve` returns here, so that a kernel's stack is as short as in a new interpreter.
"""

import sys

# The folder of this file must not be importable in a kernel; kit's own is needed for the lines below only.
sys.path[0] = __file__.rpartition("/kit/")[0]

import json  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any, NoReturn  # noqa: E402

from kit.warm import child, forking, guard, preloading  # noqa: E402
from kit.warm.folder import WarmFolder  # noqa: E402
from kit.warm.key import make_name, shared_variables  # noqa: E402

del sys.path[0]
# Kept alive by what uses them; a kernel imports its own.
for _name in [name for name in sys.modules if name.partition(".")[0] == "kit"]:
    del sys.modules[_name]

PRELOAD_LIMIT_S = 300.0


def main(options: dict[str, Any]) -> child.Order | None:
    """Leave the client, preload, serve. Returns in the server when it is not needed any more, and in each kernel."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.environ.update(json.loads(read_input()))
    if os.fork():
        os._exit(0)  # the client waits for this one
    channel, own = socket.socketpair()
    pid = os.fork()
    if pid:
        own.close()
        folder = WarmFolder(Path(options["folder"]))
        guard.Guard(pid, channel, options["status"], folder, options["name"], PRELOAD_LIMIT_S).watch()
        os._exit(0)
    channel.close()
    return serve(options, own)


def serve(options: dict[str, Any], channel: socket.socket) -> child.Order | None:
    """Preload and fork; in each kernel: what it is to be, when it has become that."""
    child.die_with(os.getppid())
    folder, key, launcher = WarmFolder(Path(options["folder"])), options["key"], Path(options["launcher"])
    variables, reads = shared_variables(os.environ), set[str]()
    try:
        preloaded = preloading.preload(options["preload"], launcher, reads)
        name = make_name(key, folder.add_names(key, reads), variables)
        edition = tuple(options["edition"])
        server = forking.ForkServer(folder, name, edition, preloaded, variables, reads, channel, options["idle_s"])
        child.survive_parent()
        server.listen()
    except preloading.UnfitError as error:
        folder.refuse(make_name(key, folder.add_names(key, reads), variables), str(error))
        give_up(options["status"], str(error))
    except (preloading.ChangedError, OSError) as error:
        give_up(options["status"], str(error))
    guard.report(options["status"], {"serving": name})
    os.close(options["status"])
    folder.cut_log(key)
    child.flush_streams()
    order = server.serve()
    if order:
        child.become_kernel(order, preloaded, launcher)
    return order


def read_input() -> bytes:
    """All of standard input, which is empty from then on."""
    data = b""
    while piece := os.read(0, 1 << 16):
        data += piece
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return data


def give_up(status: int, reason: str) -> NoReturn:
    """Tell the client why there is no server."""
    guard.report(status, {"refused": reason})
    os._exit(0)


if __name__ == "__main__":
    _order = main(json.loads(sys.argv[1]))
    if _order:
        with child.Ending():
            sys.modules["__main__"].main(_order.arguments)
    os._exit(0)
