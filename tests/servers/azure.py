"""A real server with the API of Azure Blob Storage, Azurite, which Azure's own client fills."""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Self

from tests.servers.tools import node_tool

CONTAINER = "container"
ACCOUNT = "tunewrighttest"
KEY = base64.b64encode(b"a-key-for-the-test-that-must-not-show").decode()


class Azurite:
    """Azurite on a free port of the loopback interface, with one container, running while it is entered.

    Args:
        folder: what it works in.

    Raises:
        Missing: it is neither here nor can it be installed.
    """

    def __init__(self, folder: Path) -> None:
        self._program = node_tool("azurite-blob")
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.endpoint};"

    def __enter__(self) -> Self:
        listen = ["--blobHost", "127.0.0.1", "--blobPort", str(self.port), "--inMemoryPersistence"]
        command = [str(self._program), *listen, "--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        env = {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}
        self._process = subprocess.Popen(
            command, cwd=self._folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.05)
        else:
            self.__exit__()
            raise RuntimeError("Azurite did not begin to listen")
        self.client = self.container(CONTAINER)
        self.client.create_container()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def container(self, name: str) -> Any:
        """Azure's own client for a container."""
        from azure.storage.blob import ContainerClient

        return ContainerClient.from_connection_string(self.connection_string, name)

    def signature(self, *, lasts: float = 3600) -> str:
        """A shared access signature of the container, as Azure's own client makes it."""
        import datetime as dt

        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=lasts)
        permission = ContainerSasPermissions(read=True, list=True, write=True, delete=True, create=True)
        return str(generate_container_sas(ACCOUNT, CONTAINER, KEY, permission=permission, expiry=until))

    def put(self, name: str, body: bytes) -> None:
        """Upload a blob; Azurite stores its MD5."""
        self.client.upload_blob(name, body, overwrite=True)

    def get(self, name: str) -> bytes:
        return bytes(self.client.download_blob(name).readall())

    def keys(self, prefix: str = "") -> list[str]:
        return [str(name) for name in self.client.list_blob_names(name_starts_with=prefix)]
