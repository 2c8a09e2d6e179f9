"""A store whose certificate is of an authority of its own."""

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers.faulty import Answer, FaultyServer, Request

from tunewright import ExitCode, FetchError
from tunewright_launcher.engine import fetch_snapshot
from tunewright_s3 import S3ModelParams

LISTING = b"""<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>
<Contents><Key>model/a</Key><Size>5</Size><ETag>"tag"</ETag></Contents></ListBucketResult>"""


class Store(FaultyServer):
    """One object, over TLS."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def answer(self, request: Request) -> Answer:
        return Answer(body=LISTING if "list-type" in request.target else b"hello")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("a certificate is made with openssl, which is not there")
    made, about = tmp_path / "certificate.pem", f"subjectAltName=IP:{FaultyServer.address}"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=store"]
    files = ["-keyout", tmp_path / "key.pem", "-out", made, "-addext", about]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return made


@pytest.fixture
def provider(certificate: Path) -> Iterator[S3ModelParams]:
    with Store(certificate, certificate.with_name("key.pem")) as server:
        url = server.url.replace("http://", "https://")
        yield S3ModelParams(uri="s3://bucket/model", anonymous=True, endpoint_url=url, addressing_style="path")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_the_authorities_that_the_environment_names_are_trusted(
    provider: S3ModelParams, certificate: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    fetch_snapshot(provider.snapshot(), folder)
    assert (folder / "a").read_bytes() == b"hello"


def test_others_are_not(provider: S3ModelParams, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(FetchError, match="SSL_CERT_FILE") as caught:
        fetch_snapshot(provider.snapshot(), folder)
    assert caught.value.code is ExitCode.USAGE
