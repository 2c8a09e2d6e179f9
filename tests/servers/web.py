"""Real web servers over a folder, each a process of its own on the loopback interface.

with Web(folder, "aiohttp") as server: ...       ranges, entity tags and times
with Web(folder, "http.server") as server: ...   times; ranges are ignored
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

_AIOHTTP = """
import asyncio, sys
from aiohttp import web

async def main():
    app = web.Application()
    app.router.add_static("/", sys.argv[1])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("port", runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
KINDS = {
    "aiohttp": ["-c", _AIOHTTP],
    "http.server": ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"],
}


class Web:
    """A web server that serves a folder while it is entered.

    Args:
        folder: the folder.
        kind: a key of `KINDS`, or what Python is to run: it prints "port" and its number.
    """

    def __init__(self, folder: Path, kind: str | Sequence[str]) -> None:
        self._command = [sys.executable, *(KINDS[kind] if isinstance(kind, str) else kind), str(folder)]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, encoding="utf-8"
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        found = re.search(r"port (\d+)", said)
        if found is None:
            self.__exit__()
            raise RuntimeError(f"the web server did not begin to listen: {said!r}")
        self.url = f"http://127.0.0.1:{found[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
