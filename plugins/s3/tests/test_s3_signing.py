"""Our signature against botocore's own signer."""

from urllib.parse import quote

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tunewright_s3.signing import Keys, Signer

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)
NAMES = st.sampled_from(["if-match", "x-amz-checksum-mode", "x-amz-a", "range"])
KEYS = st.text(st.characters(blacklist_categories=["C"]), min_size=1, max_size=40)


@given(
    keys=st.builds(Keys, TEXT, TEXT, st.none() | TEXT),
    method=st.sampled_from(["GET", "HEAD"]),
    host=st.sampled_from(["bucket.s3.eu-west-1.amazonaws.com", "127.0.0.1:9000", "store.example"]),
    key=KEYS,
    query=st.sampled_from(["", "versionId=a%2Fb", "partNumber=1&versionId=x"]),
    headers=st.dictionaries(NAMES, VALUES),
    region=st.sampled_from(["us-east-1", "eu-test-1"]),
)
def test_signatures_are_those_of_botocore(
    keys: Keys, method: str, host: str, key: str, query: str, headers: dict[str, str], region: str
) -> None:
    path = f"/bucket/{quote(key)}"
    ours = Signer(region).sign(keys, method, host=host, path=path, query=query, headers=headers)
    scheme = "http" if ":" in host else "https"  # botocore leaves a scheme's own port out of the Host header
    url = f"{scheme}://{host}{path}{'?' if query else ''}{query}"
    request = AWSRequest(method=method, url=url, headers=dict(headers))
    request.context["payload_signing_enabled"] = False
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    signer = _At(ours["x-amz-date"], Credentials(*keys), "s3", region)
    signer.add_auth(request)
    assert ours["Authorization"] == request.headers["Authorization"]
    assert {name.lower(): value for name, value in ours.items()} == {
        name.lower(): value for name, value in request.headers.items()
    }


class _At(S3SigV4Auth):
    """Botocore's signer at a given moment."""

    def __init__(self, moment: str, *about: object) -> None:
        super().__init__(*about)
        self._moment = moment

    def _modify_request_before_signing(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self._moment
        del request.headers["X-Amz-Date"]
        super()._modify_request_before_signing(request)

    def payload(self, request: AWSRequest) -> str:
        return "UNSIGNED-PAYLOAD"


def test_a_key_is_derived_anew_on_another_day_and_for_another_credential() -> None:
    signer = Signer("eu-test-1")
    day = 86_400

    def sign(secret: str, at: float, using: Signer) -> str:
        signed = using.sign(Keys("id", secret, None), "GET", host="h", path="/a", query="", headers={}, at=at)
        return signed["Authorization"]

    for secret, at in (("one", 0), ("one", day), ("two", day), ("one", 0)):
        assert sign(secret, at, signer) == sign(secret, at, Signer("eu-test-1"))
