"""Answers to deliveries, as they go over the wire."""

from itertools import chain

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from counterfoil.web.receiver import Reply

_TEXT = (b"content-type", b"text/plain; charset=utf-8")


class Answers:
    """Made once for all that are the same: few differ within a second, after which the date does."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._made: dict[tuple[Reply, bool], bytes] = {}

    def of(self, reply: Reply, keep_alive: bool, headers: list[tuple[bytes, bytes]]) -> bytes:
        """``headers``: uvicorn's, of which each second has a list of its own."""
        if headers is not self._headers:
            self._headers = headers
            self._made.clear()
        made = self._made.get((reply, keep_alive))
        if made is None:
            made = self._made[reply, keep_alive] = self._make(reply, keep_alive)
        return made

    def _make(self, reply: Reply, keep_alive: bool) -> bytes:
        body = reply.text.encode()
        head = [STATUS_LINE[reply.status]]
        own = (_TEXT, (b"content-length", b"%d" % len(body))) if reply.status != 204 else ()
        for name, value in chain(self._headers, own, reply.headers):
            head += (name, b": ", value, b"\r\n")
        if not keep_alive:
            head.append(b"connection: close\r\n")
        return b"".join((*head, b"\r\n", body))
