"""A proxy before a real server that misbehaves on demand."""

from __future__ import annotations

import http.client

from tests.servers.faulty import Answer, FaultyServer, Request

_OF_THE_CONNECTION = ("connection", "transfer-encoding", "date", "content-length")


class PassingProxy(FaultyServer):
    """Passes everything on to a server on the loopback interface.

    Attributes:
        port: the server's.
        damaged: what the target of uploads contains that pass with one bit changed; "" for none.
        refusals: (what the target contains, status, headers, body): answered without the server, always.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port
        self.damaged = ""
        self.refusals: list[tuple[str, int, dict[str, str], bytes]] = []

    def answer(self, request: Request) -> Answer:
        """What the server says, as long as nothing else is asked for."""
        for text, status, headers, said in self.refusals:
            if text in request.target:
                return Answer(status=status, headers=headers, body=said)
        body = bytearray(request.body)
        if self.damaged and body and self.damaged in request.target:
            body[len(body) // 2] ^= 1
        sent = {k: v for k, v in request.headers.items() if k not in ("connection", "transfer-encoding", "expect")}
        sent["content-length"] = str(len(body))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(request.method, request.target, bytes(body) or None, sent)
        response = connection.getresponse()
        answered = {k: v for k, v in response.getheaders() if k.lower() not in _OF_THE_CONNECTION}
        whole = response.read()
        connection.close()
        if "Location" in answered:
            answered["Location"] = answered["Location"].replace(f"http://127.0.0.1:{self.port}", self.url)
        if request.method == "HEAD" and (length := response.headers.get("Content-Length")):
            answered["Content-Length"] = length
        return Answer(status=response.status, headers=answered, body=whole)
