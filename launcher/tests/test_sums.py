"""Lists of digests, as the programs of this world write them."""

import hashlib

import pytest

from tunewright_launcher.http import Sums

FILES = {"a.jsonl": b"one", "sub/b (1).bin": b"two"}


def hexadecimal(algorithm: str, path: str) -> str:
    return hashlib.new(algorithm, FILES[path]).hexdigest()


def of_form(form: str, algorithm: str = "sha256") -> bytes:
    return "".join(form.format(hexadecimal(algorithm, path), path) for path in FILES).encode()


LINES = of_form("{}  {}\n")
ONE = LINES.splitlines(keepends=True)[0]
SIGNED = b"""-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA512

%s-----BEGIN PGP SIGNATURE-----

iQIzBAEBCgAdFiEE
-----END PGP SIGNATURE-----
"""


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        of_form("{} *{}\n"),
        of_form("{}  ./{}\n"),
        of_form("{}  {}\r\n"),
        of_form("{} {}\n"),
        of_form("{}\t{}\n"),
        of_form("SHA256 ({1}) = {0}\n"),
        of_form("SHA2-256({1})= {0}\n"),
        b"\xef\xbb\xbf" + LINES,
        b"# by hand\n\n" + LINES,
        SIGNED % LINES,
        b"%b  LIST\n" % hashlib.sha256(b"").hexdigest().encode() + LINES,
    ],
    ids=["usual", "binary", "dot", "crlf", "space", "tab", "bsd", "openssl", "bom", "comment", "signed", "itself"],
)
def test_every_form_of_a_list_is_read(text: bytes) -> None:
    sums = Sums.read(text, "LIST")
    assert sums.unread is None
    assert {path: digest.hex() for path, digest in sums.known.items()} == {
        path: hexadecimal("sha256", path) for path in FILES
    }


@pytest.mark.parametrize("algorithm", ["sha512", "sha1", "md5"])
def test_the_length_of_a_digest_says_its_algorithm(algorithm: str) -> None:
    (digest,) = Sums.read(of_form("{}  {}\n", algorithm)).see("a.jsonl") or ()
    assert (digest.algorithm, digest.value) == (algorithm, hexadecimal(algorithm, "a.jsonl"))


@pytest.mark.parametrize("order", [("sha256", "md5"), ("md5", "sha512", "sha256")])
def test_the_best_of_several_digests_counts(order: tuple[str, ...]) -> None:
    text = b"".join(of_form("{}  {}\n", algorithm) for algorithm in order)
    (digest,) = Sums.read(text).see("a.jsonl") or ()
    assert digest.algorithm == "sha256"


def test_escaped_names_are_what_they_were() -> None:
    text = "\\{0}  we\\\\ird\\nname\n\\SHA256 (a\\nb) = {0}\n".format("0" * 64).encode()
    assert list(Sums.read(text).known) == ["we\\ird\nname", "a\nb"]


@pytest.mark.parametrize("line", [b"<html>login</html>", b"d41d8cd9  short", b"0" * 56 + b"  of-sha224"])
def test_a_line_that_is_not_read_is_known(line: bytes) -> None:
    sums = Sums.read(ONE + line + b"\nsomething else\n")
    assert (list(sums.known), sums.unread) == (["a.jsonl"], line.decode())
