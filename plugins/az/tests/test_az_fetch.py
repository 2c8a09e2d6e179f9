"""What is fetched from a real server with Azure's API: which blobs, verified by what, and with whose credential."""

import hashlib
import itertools
import json
import random
import time

import attrs
import pytest
from tests.servers.azure import ACCOUNT, CONTAINER, KEY, Azurite
from tests.servers.faulty import Answer, Fault, FaultyServer, Request
from tests.servers.passing import PassingProxy
from tests.servers.volume import Volume

from tunewright import ExitCode
from tunewright_az import AzureDatasetParams

MIB = 1 << 20
LARGE = random.Random(5).randbytes(17 * MIB + 3)

_names = itertools.count()


@pytest.fixture
def key() -> str:
    """A folder of the container for each test."""
    return f"test-{next(_names)}"


def test_a_prefix_is_a_folder_and_no_beginning_of_names(azurite: Azurite, volume: Volume, key: str) -> None:
    files = {"a": b"a", "sub/b": b"b", "zero": b"", "ü b+c%20?d#e&f=g;h/é": b"odd", "large": LARGE}
    for name, body in files.items():
        azurite.put(f"{key}/{name}", body)
    azurite.put(f"{key}-sibling/x", b"x")
    assert volume.fetch(f"az://{CONTAINER}/{key}") == files
    assert set(volume.verified.values()) == {"md5"}


def test_a_name_is_its_blob_and_patterns_select(azurite: Azurite, volume: Volume, key: str) -> None:
    for name in ("a.json", "a.json.old", "old/b.json"):
        azurite.put(f"{key}/{name}", name.encode())
    assert volume.fetch(f"az://{CONTAINER}/{key}/a.json") == {"a.json": b"a.json"}
    found = volume.fetch(f"az://{CONTAINER}/{key}", allow_patterns="*.json", ignore_patterns="old/")
    assert list(found) == ["a.json"]
    another = volume.another()
    another.fails(ExitCode.NOT_FOUND, "select none", uri=f"az://{CONTAINER}/{key}", allow_patterns="*.csv")
    another.fails(ExitCode.NOT_FOUND, "does not exist", uri=f"az://{CONTAINER}/{key}-none")
    another.fails(ExitCode.NOT_FOUND, "ContainerNotFound", uri=f"az://no-such-container/{key}")


def test_a_blob_that_marks_a_folder_is_none_of_its_files(azurite: Azurite, volume: Volume, key: str) -> None:
    for name in ("hdi_isfolder", "Hdi_isfolder"):
        azurite.client.upload_blob(f"{key}/{name}", b"", metadata={name: "true"})
        azurite.put(f"{key}/{name}/a", b"a")
    assert volume.fetch(f"az://{CONTAINER}/{key}") == {"hdi_isfolder/a": b"a", "Hdi_isfolder/a": b"a"}


class Paging(PassingProxy):
    """Has two blobs on a page."""

    def answer(self, request: Request) -> Answer:
        listing = "comp=list" in request.target
        return super().answer(attrs.evolve(request, target=f"{request.target}&maxresults=2") if listing else request)


def test_blobs_are_listed_in_pages(azurite: Azurite, volume: Volume, key: str) -> None:
    for number in range(5):
        azurite.put(f"{key}/{number}", b"%d" % number)
    with Paging(azurite.port) as proxy:
        proxy.faults.append(Fault(path="marker=", status=503))
        assert len(volume.fetch(f"az://{CONTAINER}/{key}", endpoint=f"{proxy.url}/{ACCOUNT}")) == 5
        assert len([request for request in proxy.log if "comp=list" in request.target]) == 4


def test_a_list_of_digests_counts(azurite: Azurite, volume: Volume, key: str) -> None:
    azurite.put(f"{key}/a", b"one")
    azurite.put(f"{key}/SHA256SUMS", f"{hashlib.sha256(b'one').hexdigest()}  a\n".encode())
    volume.fetch(f"az://{CONTAINER}/{key}")
    assert volume.verified == {"a": "sha256", "SHA256SUMS": "md5"}


def test_a_damaged_blob_is_fetched_again(azurite: Azurite, proxy: PassingProxy, volume: Volume, key: str) -> None:
    azurite.put(f"{key}/a", b"one")
    proxy.faults.append(Fault(path=f"{key}/a", flip=1))
    assert volume.fetch(f"az://{CONTAINER}/{key}") == {"a": b"one"}


def test_a_connection_that_breaks_is_resumed(azurite: Azurite, proxy: PassingProxy, volume: Volume, key: str) -> None:
    azurite.put(f"{key}/a", LARGE)
    proxy.faults.append(Fault(path=f"{key}/a", cut_after=MIB, times=3))
    assert volume.fetch(f"az://{CONTAINER}/{key}/a") == {"a": LARGE}


class Changing(PassingProxy):
    """Replaces a blob after its listing."""

    azurite: Azurite
    name = ""

    def answer(self, request: Request) -> Answer:
        answer = super().answer(request)
        if "comp=list" in request.target and self.name:
            self.azurite.put(self.name, LARGE[::-1])
            self.name = ""
        return answer


def test_a_blob_that_changes_in_between_is_listed_again(azurite: Azurite, volume: Volume, key: str) -> None:
    azurite.put(f"{key}/a", LARGE)
    with Changing(azurite.port) as proxy:
        proxy.azurite, proxy.name = azurite, f"{key}/a"
        found = volume.fetch(f"az://{CONTAINER}/{key}", endpoint=f"{proxy.url}/{ACCOUNT}")
        assert found == {"a": LARGE[::-1]}


def test_each_kind_of_credential_opens_it(azurite: Azurite, endpoint: str, volume: Volume, key: str) -> None:
    azurite.put(f"{key}/a", b"one")
    uri = f"az://{CONTAINER}/{key}"
    volume.make = AzureDatasetParams
    for number, fields in enumerate(
        [
            {"sas_token": azurite.signature(), "endpoint": endpoint},
            {"sas_token": f"?{azurite.signature()}", "endpoint": endpoint},
            {"connection_string": azurite.connection_string},
            {"connection_string": f"BlobEndpoint={azurite.endpoint};SharedAccessSignature={azurite.signature()}"},
        ]
    ):
        volume.folder /= str(number)
        assert volume.fetch(uri, **fields) == {"a": b"one"}


def test_a_public_container_needs_none(azurite: Azurite, endpoint: str, volume: Volume) -> None:
    public = azurite.container("public")
    public.create_container(public_access="container")
    public.upload_blob("a", b"one")
    volume.make = AzureDatasetParams
    assert volume.fetch("az://public", endpoint=endpoint, anonymous=True) == {"a": b"one"}
    volume.another().fails(
        ExitCode.NO_PERMISSION, "Check account=", uri=f"az://{CONTAINER}", endpoint=endpoint, anonymous=True
    )


def test_a_wrong_or_expired_credential_says_so_unseen(azurite: Azurite, endpoint: str, volume: Volume) -> None:
    volume.make = AzureDatasetParams
    uri = f"az://{CONTAINER}/a"
    expired = azurite.signature(lasts=-60)
    error = volume.fails(ExitCode.NO_PERMISSION, "expired", uri=uri, endpoint=endpoint, sas_token=expired)
    assert "sig=" not in str(error)
    wrong = {"account": ACCOUNT, "account_key": "d3JvbmcgaW4gdGhlIHRlc3Q="}
    error = volume.fails(ExitCode.NO_PERMISSION, "key is current", uri=uri, endpoint=endpoint, **wrong)
    assert "d3Jvbmcg" not in str(error)


@pytest.mark.parametrize(
    ("status", "code", "exit_code", "word"),
    [
        (403, "AuthorizationPermissionMismatch", ExitCode.NO_PERMISSION, "Storage Blob Data Reader"),
        (403, "AuthorizationFailure", ExitCode.NO_PERMISSION, "firewall"),
        (409, "BlobArchived", ExitCode.NOT_FOUND, "archive tier"),
        (503, "ServerBusy", ExitCode.UNAVAILABLE, "503"),
        (418, "Other", ExitCode.BAD_DATA, "418"),
    ],
)
def test_each_refusal_says_what_to_do(
    proxy: PassingProxy, volume: Volume, status: int, code: str, exit_code: ExitCode, word: str
) -> None:
    body = b"<Error><Code>c</Code><Message>What the store says.</Message></Error>"
    proxy.refusals = [("comp=list", status, {"x-ms-error-code": code}, body)]
    error = volume.fails(exit_code, word, code, "What the store says", uri=f"az://{CONTAINER}/a")
    assert KEY not in str(error)
    proxy.refusals = [("comp=list", 200, {}, b"not a listing")]
    volume.fails(ExitCode.BAD_DATA, "not a listing", uri=f"az://{CONTAINER}/a")


class Identity(FaultyServer):
    """Gives tokens of a managed identity, as in App Service; and lists one blob for whoever has one."""

    def answer(self, request: Request) -> Answer:
        if request.path == "/token":
            token = {"access_token": "token-1", "expires_on": str(int(time.time()) + 3600), "token_type": "Bearer"}
            return Answer(
                body=json.dumps({**token, "resource": "r"}).encode(), headers={"Content-Type": "application/json"}
            )
        if request.headers.get("authorization") != "Bearer token-1":
            return Answer(status=401)
        if "comp=list" not in request.target:
            return Answer(body=b"one")
        names = "<Name>a</Name>", '<Name Encoded="true">b%EF%BF%BE</Name>'
        about = "<Properties><Content-Length>3</Content-Length></Properties>"
        folder = "<Blob><Name>f</Name><Properties><ResourceType>directory</ResourceType></Properties></Blob>"
        blobs = "".join(f"<Blob>{name}{about}</Blob>" for name in names)
        return Answer(body=f"<EnumerationResults><Blobs>{folder}{blobs}</Blobs></EnumerationResults>".encode())


@pytest.mark.parametrize(
    ("why", "code", "says"),
    [
        ("Authentication failed: HTTPSConnection(host='login', port=443): Failed to resolve 'login'", 69, "reachable"),
        ("Authentication failed: AADSTS7000215: Invalid client secret provided", 77, "AZURE_CLIENT_ID"),
    ],
)
def test_a_credential_that_does_not_work_is_not_one_that_is_missing(
    why: str, code: int, says: str, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import DefaultAzureCredential

    def get_token(*_: object) -> None:
        text = f"DefaultAzureCredential failed to retrieve a token.\nAttempted credentials:\n\tEnvironmentCredential: {why}\n"
        raise ClientAuthenticationError(text)

    monkeypatch.setattr(DefaultAzureCredential, "get_token", get_token)
    volume.make = AzureDatasetParams
    volume.fails(ExitCode(code), f"(EnvironmentCredential): {why}.", says, uri=f"az://{CONTAINER}/a", account="name")


def test_a_managed_identity_is_azures_default(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    with Identity() as server:
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{server.url}/token")
        monkeypatch.setenv("IDENTITY_HEADER", "h")
        volume.make = AzureDatasetParams
        found = volume.fetch(f"az://{CONTAINER}", endpoint=f"{server.url}/name", account="name")
        assert found == {"a": b"one", "b\ufffe": b"one"}
