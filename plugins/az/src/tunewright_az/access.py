"""Azure's credentials: a key, a signature, a token of azure-identity, or none; and where the account is."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode, urlsplit

import attrs

from tunewright import ExitCode, FetchError
from tunewright.providers import user_variable

if TYPE_CHECKING:
    from azure.core.credentials import AccessToken

_ACCOUNT = ("AZURE_STORAGE_ACCOUNT", "AZURE_STORAGE_ACCOUNT_NAME")
_CLOUD = "core.windows.net"
_SCOPE = "https://storage.azure.com/.default"
_SAS_VERSION = "2021-12-02"
_SAS_LIFE = 6 * 3600.0  # seconds
_FRESH = 300.0  # seconds before its end in which a token or signature is renewed
# How DefaultAzureCredential tells of a credential that it tried: those that are not there are said to be unavailable in other words.
_FAILED = re.compile(r"^\s*(\w+Credential): (Authentication failed: .*|.*\bAADSTS\d+.*)", re.MULTILINE)
_NETWORK = re.compile(r"HTTPS?Connection|timed out|Failed to (resolve|establish)|Connection (reset|refused|aborted)")
_ALL = "racwdl"  # read, add, create, write, delete, list: what the key itself may do


@attrs.frozen(kw_only=True)
class Access:
    """How to reach a container; every field is that of `AzureSource`. In the pod, secrets are plain strings."""

    account: str | None = None
    account_key: str | None = attrs.field(default=None, repr=False)
    sas_token: str | None = attrs.field(default=None, repr=False)
    connection_string: str | None = attrs.field(default=None, repr=False)
    anonymous: bool = False
    endpoint: str | None = None

    def resolved(self) -> Access:
        """Return the same with what the connection string and the environment say, and with the account's URL.

        Raises:
            FetchError: USAGE: there is no account.
        """
        said = _connection(self.connection_string or "")
        account = self.account or said.get("AccountName") or (None if said else _of_environment())
        endpoint = self.endpoint or said.get("BlobEndpoint")
        if account is None and endpoint is None:
            remedy = "Give account=, or AZURE_STORAGE_ACCOUNT in init_env."
            raise FetchError("There is no storage account for az://.", remedy=remedy, code=ExitCode.USAGE)
        if endpoint is None:
            protocol = said.get("DefaultEndpointsProtocol", "https")
            endpoint = f"{protocol}://{account}.blob.{said.get('EndpointSuffix', _CLOUD)}"
        return attrs.evolve(
            self,
            account=account or _account_at(endpoint),
            account_key=self.account_key or said.get("AccountKey"),
            sas_token=(self.sas_token or said.get("SharedAccessSignature") or "").rpartition("?")[2] or None,
            endpoint=endpoint.rstrip("/"),
        )


def _of_environment() -> str | None:
    return next((value for name in _ACCOUNT if (value := user_variable(name))), None)


def _account_at(endpoint: str) -> str:
    """Return the account that a URL is of: the last part of its path, as Azurite has it, or else the first of its host."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/").rpartition("/")[2] or (parts.hostname or "").partition(".")[0]


def _connection(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(";") if part)
    return {name.strip(): value for name, _, value in pairs}


class Credential:
    """What a request to one container is authorized by. Thread-safe.

    Args:
        container: the container's name.
        access: the account and its credential, resolved.
    """

    def __init__(self, container: str, access: Access) -> None:
        self._container = container
        self._access = access
        self._lock = threading.Lock()
        self._signed: tuple[str, float] = ("", 0.0)
        self._token: AccessToken | None = None

    def query(self) -> str:
        """Return the signature to append to a query; "" if there is none.

        An account's key signs one that is valid for some hours: a request signed by the key itself could not get a range later.

        Raises:
            FetchError: the key is not in base64.
        """
        if self._access.sas_token is not None or self._access.account_key is None:
            return self._access.sas_token or ""
        with self._lock:
            if time.time() > self._signed[1] - _FRESH:
                until = time.time() + _SAS_LIFE
                self._signed = self._sign(until), until
            return self._signed[0]

    def _sign(self, until: float) -> str:
        """Return a service SAS for the container; see "Create a service SAS" of Azure Storage."""
        expiry = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
        resource = f"/blob/{self._access.account}/{self._container}"
        # Permissions, start, expiry, resource, identifier, IP, protocol, version, kind, and seven more that are empty.
        text = "\n".join([_ALL, "", expiry, resource, "", "", "", _SAS_VERSION, "c", *[""] * 7])
        try:
            key = base64.b64decode(self._access.account_key or "", validate=True)
        except (binascii.Error, ValueError):
            remedy = "Give one of the account's two access keys, complete."
            raise FetchError("account_key is not in base64.", remedy=remedy, code=ExitCode.USAGE) from None
        signature = base64.b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode()
        fields = {"sv": _SAS_VERSION, "sr": "c", "sp": _ALL, "se": expiry, "sig": signature}
        return urlencode(fields, quote_via=quote)

    def headers(self) -> Mapping[str, str]:
        """Return the headers that carry the credential; none if the query does, or there is none.

        Raises:
            FetchError: azure-identity finds no credential, or cannot reach its server.
        """
        access = self._access
        if access.anonymous or access.sas_token is not None or access.account_key is not None:
            return {}
        if _is_old(self._token):
            with self._lock:
                if _is_old(self._token):
                    self._token = self._asked()
        return {"Authorization": f"Bearer {self._token.token if self._token else ''}"}

    def _asked(self) -> AccessToken:
        from azure.core.exceptions import AzureError, ClientAuthenticationError
        from azure.identity import DefaultAzureCredential

        logging.getLogger("azure.identity").setLevel(logging.ERROR)  # it warns of what is raised, in many lines
        what = f"the account {self._access.account}"
        try:
            # A new one each time: a second process must not use the connections of the first.
            with DefaultAzureCredential() as source:
                return source.get_token(_SCOPE)
        except ClientAuthenticationError as error:
            if (reason := _failed(error)) is not None:
                raise _refused(what, *reason) from error
            cause = f"There is no credential for {what}: {_first_line(error)}"
            remedy = (
                "Give account_key=, sas_token= or connection_string=, or give the pod's service account an identity, or "
                "anonymous=True for a public container."
            )
            raise FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION) from error
        except AzureError as error:
            cause = (
                f"Azure's server for credentials does not answer, so that {what} cannot be read: {_first_line(error)}"
            )
            remedy = "Check that it is reachable from where the step runs."
            raise FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE) from error


def _is_old(token: AccessToken | None) -> bool:
    return token is None or time.time() > token.expires_on - _FRESH


def _failed(error: Exception) -> tuple[str, str] | None:
    """Return the credential that is there and did not work, and why; None if there is none."""
    found = _FAILED.search(str(error))
    return None if found is None else (found[1], found[2].rstrip("."))


def _refused(what: str, credential: str, why: str) -> FetchError:
    cause = f"The credential for {what} could not be used ({credential}): {why}."
    if _NETWORK.search(why):
        remedy = "Check that Azure's server for credentials is reachable from where the step runs."
        return FetchError(cause, remedy=remedy, code=ExitCode.UNAVAILABLE)
    remedy = "Check AZURE_TENANT_ID, AZURE_CLIENT_ID and what belongs to them, or the pod's identity."
    return FetchError(cause, remedy=remedy, code=ExitCode.NO_PERMISSION)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0].rstrip('.')}." if lines else f"{type(error).__name__}."
