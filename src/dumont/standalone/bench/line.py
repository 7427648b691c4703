"""The line rate: what plain TCP carries over a link, both ways. `python -m … PORT` is the far end of it.

The near end says `U` and sends until it has sent enough, or says `D` and a count and reads that many bytes. The far end
answers an upload with the count it received, so that the time ends when the last byte has arrived.
"""

import socket
import sys
import time

PIECE = bytes(2**20)
UP, DOWN = b"U", b"D"
COUNT_BYTES = 8
ANSWER_S_MAX = 60.0


def rates(host: str, port: int, total: int) -> tuple[float, float]:
    """Upload and download of `total` bytes, in bytes per second. Raises OSError."""
    with socket.create_connection((host, port), ANSWER_S_MAX) as link:
        began = time.perf_counter()
        link.sendall(UP)
        for _ in range(total // len(PIECE)):
            link.sendall(PIECE)
        link.shutdown(socket.SHUT_WR)
        arrived = int.from_bytes(_exactly(link, COUNT_BYTES), "big")
        up = arrived / (time.perf_counter() - began)
    with socket.create_connection((host, port), ANSWER_S_MAX) as link:
        began = time.perf_counter()
        link.sendall(DOWN + total.to_bytes(COUNT_BYTES, "big"))
        return up, _drain(link) / (time.perf_counter() - began)


def serve(port: int) -> None:
    """Answer one connection after another, until killed."""
    with socket.create_server(("", port)) as listener:
        while True:
            link, _peer = listener.accept()
            with link:
                if _exactly(link, 1) == UP:
                    link.sendall(_drain(link).to_bytes(COUNT_BYTES, "big"))
                else:
                    for _ in range(int.from_bytes(_exactly(link, COUNT_BYTES), "big") // len(PIECE)):
                        link.sendall(PIECE)


def _drain(link: socket.socket) -> int:
    buffer = bytearray(len(PIECE))
    received = 0
    while count := link.recv_into(buffer):
        received += count
    return received


def _exactly(link: socket.socket, count: int) -> bytes:
    parts = b""
    while len(parts) < count:
        part = link.recv(count - len(parts))
        if not part:
            raise ConnectionError("the other end of the line test went away")
        parts += part
    return parts


if __name__ == "__main__":
    serve(int(sys.argv[1]))
