"""The server's loop: it answers clients, forks kernels, and tells each client how its kernel ended."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from kit.warm.child import Order, die_with, read_order
from kit.warm.folder import WarmFolder, short_path
from kit.warm.guard import end_group
from kit.warm.obstacles import describe_obstacle
from kit.warm.preloading import Preloaded
from kit.warm.safety import fork_quietly
from kit.warm.wire import Closed, Connection

# How often a server that has nothing to do looks whether it is still wanted.
LOOK_S = 5.0


@dataclass
class Kernel:
    """One kernel that was forked.

    Attributes:
        pid: its process id, session and group; not given to any other process before `release`.
        exit_fd: readable when it has ended.
        client: who asked for it; if that connection closes, the kernel and its group end.
        code: as subprocess has it; None while it runs.
    """

    pid: int
    exit_fd: int
    client: Connection
    code: int | None = None

    def read_code(self) -> int | None:
        """How it ended, None if it runs; its process id stays taken."""
        result = os.waitid(os.P_PIDFD, self.exit_fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if result is None:
            return None
        return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status

    def release(self) -> None:
        """End what is left of its group, and let go of its process id."""
        end_group(self.pid)
        os.waitid(os.P_PIDFD, self.exit_fd, os.WEXITED)
        os.close(self.exit_fd)


@dataclass
class ForkServer:
    """Forks kernels from this process.

    Attributes:
        folder, name: where it is found; see `kit.warm.folder`.
        edition: (family, digest), see `kit.warm.key`.
        preloaded: what it has imported.
        variables: its own environment before it imported anything.
        reads: names of those that were read since.
        guard: where the guard hears of kernels; it is closed if the guard was killed.
        idle_s: seconds without a kernel and without a request after which it ends.
    """

    folder: WarmFolder
    name: str
    edition: tuple[str, str]
    preloaded: Preloaded
    variables: dict[str, str]
    reads: set[str]
    guard: socket.socket
    idle_s: float
    started: float = field(default_factory=time.time)
    _listener: socket.socket | None = None
    _inode: int = 0
    _clients: dict[int, Connection] = field(default_factory=dict)
    _ends: dict[int, Connection] = field(default_factory=dict)
    _kernels: dict[int, Kernel] = field(default_factory=dict)
    _last_used: float = field(default_factory=time.monotonic)
    _n_forked: int = 0

    def listen(self) -> None:
        """Be found from now on.

        Raises:
            OSError: the folder has gone.
        """
        path = self.folder.socket(self.name)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        with short_path(path) as address:
            self._listener.bind(address)
        path.chmod(0o600)
        self._listener.listen(64)
        self._inode = path.stat().st_ino
        self.guard.sendall(b"serving\n")

    def serve(self) -> Order | None:
        """Until it is not needed any more; then None. In each forked process: what that process is to be."""
        while self._is_wanted():
            for descriptor in self._wait():
                if descriptor == self.guard.fileno():
                    self._end_all()
                elif self._listener and descriptor == self._listener.fileno():
                    self._accept()
                elif kernel := self._kernels.get(descriptor):
                    self._tell_end(kernel)
                elif client := self._ends.get(descriptor):
                    self._lose(client)
                elif client := self._clients.get(descriptor):
                    order = self._hear(client)
                    if order:
                        return order
        self._retire()
        return None

    def _wait(self) -> list[int]:
        poll = select.poll()
        own = [end.fileno() for end in (self.guard, self._listener) if end]
        for descriptor in (*own, *self._clients, *self._ends):
            poll.register(descriptor, select.POLLIN)
        for descriptor, kernel in self._kernels.items():
            if kernel.code is None:
                poll.register(descriptor, select.POLLIN)
        idle_left_s = self._last_used + self.idle_s - time.monotonic()
        limit_s = min(LOOK_S, max(0.05, idle_left_s)) if not self._kernels else LOOK_S
        return [descriptor for descriptor, _ in poll.poll(limit_s * 1000)]

    def _is_wanted(self) -> bool:
        if self._listener and not self._is_found():
            self._retire()
        if self._kernels:
            return True
        return self._listener is not None and time.monotonic() - self._last_used < self.idle_s

    def _is_found(self) -> bool:
        """True while the socket's name leads here, which it does not once the folder or the name was removed."""
        try:
            return self.folder.socket(self.name).stat().st_ino == self._inode
        except OSError:
            return False

    def _retire(self) -> None:
        """Be found no more; kernels that run stay."""
        if self._listener is None:
            return
        if self._is_found():
            with contextlib.suppress(OSError):
                self.folder.socket(self.name).unlink()
        self._listener.close()
        self._listener = None

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            end, _ = self._listener.accept()
        except OSError:
            return
        client = Connection(end)
        pid, user = client.peer
        if user != os.getuid():
            client.close()
            return
        try:
            # A fork of the client may hold the connection open when the client itself is gone.
            self._ends[os.pidfd_open(pid)] = client
        except OSError:
            client.close()
            return
        self._clients[client.fileno()] = client

    def _hear(self, client: Connection) -> Order | None:
        """Read a client's request and answer it; the order, in a forked process."""
        try:
            received = client.receive()
            if received is None:
                return None
        except Closed:
            self._lose(client)
            return None
        request, descriptors = received
        order = None
        try:
            order = self._answer(client, request, descriptors)
        except Closed:
            self._lose(client)
        finally:
            if order is None:
                for descriptor in descriptors:
                    os.close(descriptor)
        return order

    def _answer(self, client: Connection, request: dict[str, Any], descriptors: list[int]) -> Order | None:
        match request.get("kind"):
            case "fork" if len(descriptors) == 3:
                return self._fork(client, request, descriptors)
            case "describe":
                client.send(self._describe())
            case "stop":
                self._retire()
                client.send(self._describe())
            case _:
                raise Closed("a request that no client of this version sends")
        return None

    def _describe(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "preloaded": self.preloaded.names,
            "n_kernels": len(self._kernels),
            "n_forked": self._n_forked,
            "started": self.started,
            "idle_s": time.monotonic() - self._last_used,
            "family": self.edition[0],
            "edition": self.edition[1],
        }

    def _fork(self, client: Connection, request: dict[str, Any], descriptors: list[int]) -> Order | None:
        order = read_order(request, descriptors)
        self._last_used = time.monotonic()
        reason = describe_obstacle(order, self.preloaded, self.variables, self.reads)
        if reason:
            client.send({"kind": "refused", "reason": reason})
            return None
        pid, descriptor = self._split()
        if pid == 0:
            self._leave()
            return dataclasses.replace(order, permission=descriptor)
        try:
            self._adopt(client, pid, descriptor)
        finally:
            os.close(descriptor)
        return None

    def _split(self) -> tuple[int, int]:
        """Fork a process that is a session and a group of its own.

        Returns:
            (0, reading end) in the new process, which may go on when a byte has come there; (its id, writing end) here.
        """
        server = os.getpid()
        is_led, leads = os.pipe()
        permission, permits = os.pipe()
        pid = fork_quietly()
        if pid == 0:
            os.setsid()
            die_with(server)
            for descriptor in (is_led, leads, permits):
                os.close(descriptor)
            return 0, permission
        os.close(leads)
        os.close(permission)
        os.read(is_led, 1)  # until the new process has closed its end, or has died
        os.close(is_led)
        return pid, permits

    def _adopt(self, client: Connection, pid: int, permits: int) -> None:
        """A process was forked: let it become a kernel if what it has imported is still what is installed, and answer."""
        self.guard.sendall(b"+%d\n" % pid)
        kernel = Kernel(pid, os.pidfd_open(pid), client)
        self._kernels[kernel.exit_fd] = kernel
        self._n_forked += 1
        changed = self.preloaded.find_changed()
        if changed:
            self._retire()
            client.send({"kind": "stale", "reason": f"{changed} was changed after it was imported"})
            self._lose(client)
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(permits, b"!")
        client.send({"kind": "forked", "pid": pid, "preloaded": self.preloaded.names}, [kernel.exit_fd])

    def _tell_end(self, kernel: Kernel) -> None:
        kernel.code = kernel.read_code()
        if kernel.code is None:
            return
        try:
            kernel.client.send({"kind": "ended", "code": kernel.code})
        except Closed:
            self._lose(kernel.client)

    def _lose(self, client: Connection) -> None:
        """A client has gone, or is done with its kernel, which ends."""
        if self._clients.pop(client.fileno(), None) is None:
            return
        client.close()
        for descriptor in [each for each, owner in self._ends.items() if owner is client]:
            del self._ends[descriptor]
            os.close(descriptor)
        for kernel in [each for each in self._kernels.values() if each.client is client]:
            self._release(kernel)

    def _release(self, kernel: Kernel) -> None:
        del self._kernels[kernel.exit_fd]
        kernel.release()
        with contextlib.suppress(OSError):
            self.guard.sendall(b"-%d\n" % kernel.pid)
        self._last_used = time.monotonic()

    def _end_all(self) -> None:
        """The guard was killed: without it nobody would end the kernels of a killed server."""
        self._retire()
        for kernel in list(self._kernels.values()):
            self._lose(kernel.client)
        for client in list(self._clients.values()):
            self._lose(client)
        os._exit(1)

    def _leave(self) -> None:
        """In a forked process: let go of the server's sockets."""
        for client in self._clients.values():
            client.close()
        for end in (self._listener, self.guard):
            if end:
                end.close()
        self._clients, self._ends, self._kernels, self._listener = {}, {}, {}, None
