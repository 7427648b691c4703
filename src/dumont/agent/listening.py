"""Listening: at the instance's own address, or at all of them where that one is known only outside."""

import socket


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket at the instance's own address; at all of them where that one is only known outside."""
    for address in (host, "0.0.0.0", "::"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as error:
            listener.close()
            failure = error
            continue
        listener.listen(128)
        return listener
    raise failure
