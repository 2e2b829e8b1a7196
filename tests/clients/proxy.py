"""A TCP proxy between a client and the server: it keeps what went by, and bends messages that it is told to bend."""

import socket
import threading


def _exactly(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


class Proxy:
    """Listens on a port of its own; every connection to it goes on to `host`:`port`."""

    def __init__(self, host, port):
        self.target = (host, port)
        self.seen = bytearray()
        self.bend = None
        self.bent = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self.target, timeout=20)
            except OSError:
                return
            server.settimeout(None)
            for source, sink, up in [(client, server, True), (server, client, False)]:
                threading.Thread(target=self._carry, args=(source, sink, up), daemon=True).start()

    def _carry(self, source, sink, up):
        """Message by message: four bytes of length, then so many."""
        try:
            while True:
                head = _exactly(source, 4)
                body = head and _exactly(source, int.from_bytes(head[1:], "big"))
                if body is None:
                    break
                bend = self.bend
                if up and bend:
                    self.bend = None
                    body = bend(bytearray(body))
                    self.bent += 1
                self.seen += body
                sink.sendall(head + body)
        except OSError:
            pass
        for stream in (source, sink):
            try:
                stream.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
