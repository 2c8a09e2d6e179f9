"""The client side uses nothing that only Linux has: it is imported here without what Windows and macOS lack."""

import json
import subprocess
import sys

import pytest

# What `import` finds on Linux and not on Windows; resource and the rest of POSIX is there on macOS.
MODULES = ("fcntl", "grp", "nis", "ossaudiodev", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty")
NAMES = {
    "os": ("fork", "getuid", "geteuid", "getpgid", "killpg", "mkfifo", "sched_getaffinity", "setsid", "statvfs", "waitid", "P_ALL",
           "WEXITED", "WNOHANG", "WNOWAIT", "O_NOFOLLOW", "O_DIRECTORY", "EX_USAGE"),
    "signal": ("SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGCHLD", "SIGALRM", "pthread_sigmask"),
    "socket": ("AF_UNIX",),
    "select": ("epoll", "poll"),
    "time": ("tzset",),
}  # fmt: skip

CODE = """
import importlib, json, os, pkgutil, selectors, signal, socket, select, subprocess, sys, tempfile, time, asyncio  # before they lose parts
import click, rich.console, yaml, pluggy, attrs, cattrs, platformdirs  # what other people's packages do is their business
modules, names, packages = json.loads(sys.argv[1])
for name in modules:
    sys.modules[name] = None
for module, attributes in names.items():
    for attribute in attributes:
        if hasattr(sys.modules[module], attribute):
            delattr(sys.modules[module], attribute)
done = []
for package in packages:
    found = importlib.import_module(package)
    done.append(package)
    for info in pkgutil.walk_packages(getattr(found, "__path__", []), package + "."):
        if info.name.rpartition(".")[2] not in ("testing", "__main__"):
            importlib.import_module(info.name)
            done.append(info.name)
print(json.dumps(done))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "package",
    [
        "tunewright",
        "tunewright_s3",
        "tunewright_kaggle",
        "tunewright_gitlfs",
        "tunewright_http",
        "tunewright_gs",
        "tunewright_az",
    ],
)
def test_the_client_side_imports_without_what_only_linux_has(package: str) -> None:
    arguments = json.dumps([MODULES, NAMES, [package]])
    done = subprocess.run([sys.executable, "-c", CODE, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert package in json.loads(done.stdout)


def test_what_users_import_of_the_hf_plugin_does_too() -> None:
    arguments = json.dumps(
        [MODULES, NAMES, ["tunewright_hf", "tunewright_hf.config.train_params", "tunewright_hf.hub.providers"]]
    )
    code = CODE.replace('getattr(found, "__path__", [])', "[]")
    done = subprocess.run([sys.executable, "-c", code, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_request_is_rendered_without_what_only_linux_has() -> None:
    code = CODE + (
        "from tunewright import TrainingClient\n"
        "for backend in ('kubernetes', 'local'):\n"
        "    made = TrainingClient(backend).create_job('a', base_image='a:1', command=['./start'], dry_run=True)\n"
        "    assert made.to_yaml()\n"
    )
    arguments = json.dumps([MODULES, NAMES, ["tunewright"]])
    done = subprocess.run([sys.executable, "-c", code, arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
