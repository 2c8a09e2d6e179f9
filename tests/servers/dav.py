"""Real WebDAV servers over a folder, each a process of its own on the loopback interface.

with Dav(folder) as server: ...              WsgiDAV
with Nginx(folder, scratch) as server: ...   nginx with its two modules for WebDAV, where Debian's packages are installed
with Apache(folder, scratch) as server: ...  Apache with mod_dav, likewise

WsgiDAV asks for a user and a password; the others for nothing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tests.servers.tools import Missing
from tests.servers.web import Web

USER, PASSWORD = "a-user-for-the-test", "a-password-for-the-test"

_WSGIDAV = """
import sys
from cheroot import wsgi
from wsgidav.wsgidav_app import WsgiDAVApp

folder = {"root": sys.argv[-1], "readonly": "--readonly" in sys.argv}
app = WsgiDAVApp({
    "provider_mapping": {"/": folder},
    "simple_dc": {"user_mapping": {"*": {"%s": {"password": "%s"}}}},
    "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
    "logging": {"enable": False},
    "verbose": 0,
})
server = wsgi.Server(("127.0.0.1", 0), app)
server.prepare()
print("port", server.bind_addr[1], flush=True)
server.serve()
""" % (USER, PASSWORD)  # noqa: UP031 - it has braces
_NGINX = """
load_module modules/ngx_http_dav_ext_module.so;
pid {scratch}/pid;
error_log {scratch}/error.log;
daemon off;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder};
        client_max_body_size 0;
        dav_methods PUT DELETE MKCOL COPY MOVE;
        dav_ext_methods PROPFIND OPTIONS;
    }}
}}
"""
_APACHE = """
ServerRoot {scratch}
ServerName 127.0.0.1
Listen 127.0.0.1:{port}
PidFile {scratch}/pid
ErrorLog {scratch}/error.log
{modules}
DocumentRoot {folder}
DavLockDB {scratch}/locks
<Directory {folder}>
    Require all granted
    Dav On
</Directory>
"""
_APACHE_MODULES = ("mpm_event", "authz_core", "dav", "dav_fs")
_MODULES = Path("/usr/lib/apache2/modules")
_PATH = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"


class Dav(Web):
    """WsgiDAV. `readonly` refuses whatever changes something."""

    def __init__(self, folder: Path, *, readonly: bool = False) -> None:
        super().__init__(folder, ["-c", _WSGIDAV, *(["--readonly"] if readonly else [])])


class _Daemon:
    """A server with a configuration file.

    Args:
        folder: what it serves; it must be readable and writable for everybody if this is root's process.
        scratch: for its own files.
    """

    name = ""

    def __init__(self, folder: Path, scratch: Path) -> None:
        program = shutil.which(self.name, path=_PATH)
        if program is None:
            raise Missing(f"{self.name} is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = scratch / "server.conf"
        config.write_text(self.configured(folder, scratch), "utf-8")
        self._command = [program, *self.arguments(), str(config)]

    def configured(self, folder: Path, scratch: Path) -> str:
        """The configuration."""
        raise NotImplementedError

    def arguments(self) -> list[str]:
        """What comes before the path of the configuration."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in range(300):
            if self._process.poll() is not None:
                assert self._process.stderr is not None
                raise Missing(f"{self.name} does not start: {self._process.stderr.read().decode()[-500:]}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.1)
            else:
                return self
        raise RuntimeError(f"{self.name} does not listen")

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()


class Nginx(_Daemon):
    """nginx with ngx_http_dav_module and ngx_http_dav_ext_module."""

    name = "nginx"

    def configured(self, folder: Path, scratch: Path) -> str:
        user = "user root;" if os.getuid() == 0 else ""
        return user + _NGINX.format(folder=folder, scratch=scratch, port=self.port)

    def arguments(self) -> list[str]:
        return ["-p", "/usr/share/nginx", "-c"]


class Apache(_Daemon):
    """Apache with mod_dav and mod_dav_fs."""

    name = "apache2"

    def configured(self, folder: Path, scratch: Path) -> str:
        modules = "\n".join(f"LoadModule {name}_module {_MODULES}/mod_{name}.so" for name in _APACHE_MODULES)
        return _APACHE.format(folder=folder, scratch=scratch, port=self.port, modules=modules)

    def arguments(self) -> list[str]:
        return ["-X", "-f"]
