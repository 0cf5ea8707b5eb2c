"""How a server stops listening."""

import asyncio
import socket

import pytest
import uvloop

from kit.server.draining import stop_listening
from kit.server.main import bind

N_CLIENTS = 50


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)


async def stop_while_clients_wait() -> list[bytes]:
    """What clients read who connected and asked while the server did something else, and whom it met when it was to stop."""
    loop = asyncio.get_running_loop()
    with bind("127.0.0.1", 0) as bound:
        address = bound.getsockname()
        server = await loop.create_server(Echo, sock=bound, backlog=2 * N_CLIENTS)
        clients = [socket.create_connection(address) for _ in range(N_CLIENTS)]
        for client in clients:
            client.sendall(b"x")
            client.setblocking(False)
        await stop_listening([server], bound)
        answers = [await loop.sock_recv(client, 10) for client in clients]
        for client in clients:
            client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        return answers


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
def test_connections_that_wait_in_the_queue_are_answered_and_later_ones_refused(factory):
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(asyncio.wait_for(stop_while_clients_wait(), 60)) == [b"x"] * N_CLIENTS
