"""A real S3 server over a folder: versitygw."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.servers.tools import tool

if TYPE_CHECKING:
    from botocore.client import BaseClient

ACCESS_KEY, SECRET_KEY, REGION = "test-access-key", "test-secret-key-that-must-not-show", "us-east-1"


class Gateway:
    """versitygw on a free port of the loopback interface, running while it is entered.

    Args:
        folder: where buckets and objects are kept; made if it is not there.

    Raises:
        Missing: versitygw is neither here nor can it be built.
    """

    def __init__(self, folder: Path) -> None:
        self._program = tool("versitygw")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]

    @property
    def url(self) -> str:
        """http://127.0.0.1:port"""
        return f"http://127.0.0.1:{self._port}"

    @property
    def env(self) -> dict[str, str]:
        """Credentials and region, as every client reads them."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self, endpoint: str | None = None) -> BaseClient:
        """boto3's client for the server, or for what stands in front of it."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
        config = Config(s3={"addressing_style": "path"}, signature_version="s3v4")
        return session.client("s3", endpoint_url=endpoint or self.url, config=config)

    def __enter__(self) -> Self:
        data, versions = self._folder / "data", self._folder / "versions"
        for folder in (data, versions):
            folder.mkdir(parents=True, exist_ok=True)
        listen = ["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--port", f"127.0.0.1:{self._port}", "--quiet"]
        command = [str(self._program), *listen, "posix", "--versioning-dir", str(versions), str(data)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return self
            time.sleep(0.05)
        self.__exit__()
        raise RuntimeError("versitygw did not begin to listen")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
