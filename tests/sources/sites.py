"""A place for a feed on each kind of server: what a test puts there, and how it is configured."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncssh
import trustme

from tests.sources.servers import PASSWORD, USER, CuttingProxy, certificate, ftp_server, s3_server, sftp_server

ENVIRON = {"U": USER}
SECRETS = {"P": PASSWORD, "ACCESS": "access-key-id", "SECRET": "s3cret/access+key"}
SCHEMES = ("ftp", "ftps", "sftp", "s3")
LOGIN = 'username = "env:U"\npassword = "env:P"\n'


class Site:
    """``url``: of a file; ``options``: the settings that belong to it; ``port``: of the server."""

    def __init__(
        self, scheme: str, folder: Path, port: int, options: str, *, bucket: Any = None, cuts: Any = None
    ) -> None:
        self.scheme, self.folder, self.port, self.options, self._bucket = scheme, folder, port, options, bucket
        self.cuts: list[int] = [] if cuts is None else cuts
        """FTP: after how many bytes of data the server drops its connections, if there is a number."""

    def url(self, path: str = "stock.csv", *, port: int | None = None) -> str:
        if self.scheme == "s3":
            return f"s3://feeds/{path}"
        return f"{self.scheme}://127.0.0.1:{port or self.port}/{path}"

    def put(self, content: bytes, path: str = "stock.csv", *, age: float = 60.0) -> None:
        """Write a file that was last modified ``age`` seconds ago. An S3 knows only the time of the upload."""
        if self._bucket is not None:
            self._bucket(path, content, age)
            return
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (time.time() - age,) * 2)

    def behind(self, proxy: CuttingProxy) -> tuple[str, str]:
        """Return URL and options that go through a proxy."""
        options = self.options.replace(f":{self.port}", f":{proxy.port}")
        return self.url(port=proxy.port), options


@contextlib.contextmanager
def site(scheme: str, folder: Path, **serving: Any) -> Iterator[Site]:
    """Start a server of this kind. ``serving``: arguments of the server in `tests.sources.servers`."""
    files, cuts = folder / "served", list[int]()
    files.mkdir()
    if scheme == "s3":
        with s3_server() as address:
            port = int(address.rpartition(":")[2])
            options = f'endpoint_url = "{address}"\naccess_key = "env:ACCESS"\nsecret_key = "env:SECRET"\n'
            yield Site(scheme, files, port, options, bucket=_bucket(address))
    elif scheme == "sftp":
        key = asyncssh.generate_private_key("ssh-ed25519")
        (folder / "host_key").write_bytes(key.export_public_key())
        with sftp_server(files, key, **serving) as port:
            yield Site(scheme, files, port, LOGIN + 'host_key = "file:host_key"\n')
    elif scheme == "ftps":
        ca = trustme.CA()
        ca.cert_pem.write_to_path(str(folder / "ca.pem"))
        with ftp_server(files, certificate=certificate(folder, ca, "127.0.0.1"), cuts=cuts, **serving) as port:
            yield Site(scheme, files, port, LOGIN + 'ca_file = "ca.pem"\n', cuts=cuts)
    else:
        with ftp_server(files, cuts=cuts, **serving) as port:
            yield Site(scheme, files, port, LOGIN, cuts=cuts)


def _bucket(address: str) -> Any:
    import boto3
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    client = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="any", aws_secret_access_key="any", region_name="us-east-1"
    )
    s3_backends[DEFAULT_ACCOUNT_ID]["aws"].reset()
    client.create_bucket(Bucket="feeds")

    def put(path: str, content: bytes, age: float) -> None:
        client.put_object(Bucket="feeds", Key=path, Body=content)
        key = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets["feeds"].keys[path]
        key.last_modified = key.last_modified.fromtimestamp(time.time() - age, key.last_modified.tzinfo)

    return put
