"""`python -m benchmarks.fetch_gitlfs`: from a git server with LFS that is far away, ours beside git and git-lfs.

One LFS object of 200 MB and 500 of 100 KB, in one commit, with 20 ms to each request and 90 MB/s a connection. git-lfs has 32
transfers at once, which serves it best here. Every file's SHA-256 is checked after each run. Ratios above 1 mean that we are
faster.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.git import ENVIRONMENT, File, GitServer, Lfs
from tests.servers.tools import Missing, tool

from benchmarks.clients import Client, alternate, far_away, medians, ours, table
from benchmarks.timing import machine

NAME = "org/model"
MB = 1_000_000

# Its own documentation's way to have many files: nothing while checking out, and then all at once.
_GIT_LFS = (
    'GIT_LFS_SKIP_SMUDGE=1 git clone --quiet "$0" files && cd files && git -c lfs.concurrenttransfers=32 lfs pull'
)


def clients(url: str, scratch: Path) -> list[Client]:
    """Ours, and git with git-lfs.

    Raises:
        Missing: there is no git-lfs.
    """
    settings = scratch / "gitconfig"
    settings.write_text(
        '[filter "lfs"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n'
        "\tprocess = git-lfs filter-process\n\trequired = true\n"
    )
    path = f"{tool('git-lfs').parent}{os.pathsep}{os.environ['PATH']}"
    return [
        # The repository of its own, too, is made where folders do not share what ext4 remembers of files that were removed.
        ours(scratch, "gitlfs", {"uri": f"gitlfs+{url}/{NAME}"}, env={"TMPDIR": str(scratch / "targets")}),
        Client(
            name="git_lfs",
            command=lambda _: ["sh", "-c", _GIT_LFS, f"{url}/{NAME}"],
            env={**ENVIRONMENT, "PATH": path, "GIT_CONFIG_GLOBAL": str(settings)},
            folder=lambda target: target / "files",
        ),
    ]


def fill(server: GitServer, *, large: int, small: int) -> dict[str, str]:
    """Commit the files; returns relative path → SHA-256."""
    sizes = {"model.bin": large, **{f"data/{i:06}.bin": 100_000 for i in range(small)}}
    # Different contents cost nothing to make: a counter, stretched.
    objects = {path: Lfs(hashlib.shake_128(path.encode()).digest(size)) for path, size in sizes.items()}
    plain: dict[str, File] = {"config.json": b"{}\n", ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}
    server.commit(NAME, {**plain, **objects})
    return {path: file.oid for path, file in objects.items()}


def measure(*, large: int, small: int, repeats: int) -> dict[str, object]:
    """Both arms, far; prints the table.

    Raises:
        Missing: a program that it needs is not here.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        scratch = Path(folder)
        with GitServer(scratch / "git") as server:
            expected = fill(server, large=large, small=small)
            with far_away(server.url) as url:
                costs = alternate(clients(url, scratch), scratch / "targets", expected, repeats)
    found = table("gitlfs, far", costs, "ours")
    return {"medians": medians(costs, "far"), "ratios": {f"{name}_far": ratio for name, ratio in found.items()}}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--large", type=int, default=200, help="MB of the large object")
    parser.add_argument("--small", type=int, default=500, help="number of small objects")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    about = {"large_mb": options.large, "small": options.small, "repeats": options.repeats}
    settings: Mapping[str, object] = {**machine(), **about}
    try:
        found = measure(large=options.large * MB, small=options.small, repeats=options.repeats)
    except Missing as missing:
        sys.exit(f"It cannot be measured here: {missing}.")
    if options.json:
        print(json.dumps({"settings": settings, **found}))


if __name__ == "__main__":
    main()
