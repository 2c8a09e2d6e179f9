"""The client half of `az://`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright import ExitCode, FetchError, RequestError
from tunewright.providers.uris import path_problem
from tunewright.testing import DatasetProviderTests, ModelProviderTests
from tunewright_az import AzureDatasetParams, AzureModelParams, format_uri, parse_uri
from tunewright_az.access import Access

KEY = "YS1rZXktZm9yLXRoZS10ZXN0"
SIGNATURE = "sv=2021-12-02&sr=c&sig=a-signature-for-the-test"
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=name;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn"
PREFIXES = st.text(min_size=1).filter(lambda s: not path_problem(s))
CONTAINERS = st.from_regex(r"[a-z0-9]([a-z0-9]|-[a-z0-9]){1,10}[a-z0-9]", fullmatch=True)


class TestAzureModel(ModelProviderTests):
    name, tested_elsewhere = "az", "plugins/az/tests/test_az_kit.py"

    def provider(self) -> AzureModelParams:
        return AzureModelParams(uri="az://models/tiny", account="name", account_key=KEY, allow_patterns="*.json")


class TestAzureDataset(DatasetProviderTests):
    name, tested_elsewhere = "az", "plugins/az/tests/test_az_kit.py"

    def provider(self) -> AzureDatasetParams:
        return AzureDatasetParams(uri="az://data/train", eval_dataset="az://data/eval", sas_token=SIGNATURE)


class TestAzureDatasetByConnectionString(DatasetProviderTests):
    name, tested_elsewhere = "az", "plugins/az/tests/test_az_kit.py"

    def provider(self) -> AzureDatasetParams:
        endpoint = "http://localhost:10000/devstoreaccount1"
        return AzureDatasetParams(uri="az://data", connection_string=CONNECTION, endpoint=endpoint)


@given(CONTAINERS, st.just("") | PREFIXES)
def test_a_uri_is_parsed_as_it_is_formatted(container: str, prefix: str) -> None:
    uri = format_uri(container, prefix)
    if uri != uri.strip() or not uri.isprintable():
        return
    try:
        assert parse_uri(uri) == (container, prefix)
    except RequestError as error:
        assert "token" in str(error)  # noqa: PT017 - text that looks like a credential


@pytest.mark.parametrize(
    "uri",
    ["az://", "az:///a", "az://ab/c", "az://Upper/a", "az://a--b/c", "az://name/../a", "az://name/a//b",
     "az://name.blob.core.windows.net/container/a", "az://user:password@name/a", "az+x://name/a"],
)  # fmt: skip
def test_what_is_no_place_in_a_container_is_refused(uri: str) -> None:
    with pytest.raises(RequestError):
        AzureDatasetParams(uri=uri)
    with pytest.raises(RequestError):
        AzureDatasetParams(uri="az://data/a", eval_dataset=uri)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"account": "https://name.blob.core.windows.net"}, "account"),
        ({"account_key": "not-a-key-of-the-test"}, "account_key"),
        ({"account_key": KEY, "sas_token": SIGNATURE}, "account_key"),
        ({"sas_token": "not-a-key-of-the-test"}, "sas_token"),
        ({"connection_string": "not-a-key-of-the-test"}, "connection_string"),
        ({"connection_string": CONNECTION, "anonymous": True}, "anonymous"),
        ({"endpoint": "localhost"}, "endpoint"),
    ],
)
def test_bad_fields_are_named_unseen(fields: dict[str, object], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        AzureDatasetParams(uri="az://data/a", **fields)  # type: ignore[arg-type]
    assert caught.value.field.endswith(named)
    assert "not-a-key" not in str(caught.value)


def test_the_account_is_that_of_the_field_or_the_connection_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FetchError, match="AZURE_STORAGE_ACCOUNT") as caught:
        Access().resolved()
    assert caught.value.code is ExitCode.USAGE
    of_text = Access(connection_string=CONNECTION).resolved()
    assert (of_text.endpoint, of_text.account_key) == ("https://name.blob.core.chinacloudapi.cn", KEY)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "other")
    assert Access().resolved().endpoint == "https://other.blob.core.windows.net"
    assert Access(account="mine", sas_token=f"?{SIGNATURE}").resolved().sas_token == SIGNATURE
    assert Access(account="mine", sas_token=f"https://x.example/c?{SIGNATURE}").resolved().sas_token == SIGNATURE
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    for endpoint, account in {
        "http://127.0.0.1:10000/devstoreaccount1": "devstoreaccount1",
        "http://localhost:10000/devstoreaccount1/": "devstoreaccount1",
        "https://mine.blob.core.chinacloudapi.cn": "mine",
    }.items():
        assert Access(endpoint=endpoint).resolved().account == account
    signed = f"BlobEndpoint=https://x.blob.core.windows.net/;SharedAccessSignature={SIGNATURE}"
    found = Access(connection_string=signed).resolved()
    assert (found.account, found.endpoint, found.sas_token) == ("x", "https://x.blob.core.windows.net", SIGNATURE)
