"""Apache Kafka as tests start it: one KRaft node on loopback, its jars resolved by Maven."""

from __future__ import annotations

import base64
import re
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

__all__ = ["ApacheKafka", "ApacheKafkaError", "broker_classpath", "missing_tools"]

POM = Path(__file__).parents[1] / "kafka" / "broker" / "pom.xml"
_OLDEST_JAVA = 17
_RESOLVE_TIMEOUT_S = 600
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 30
_STARTED = "Kafka Server started"

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENT://127.0.0.1:{port}
listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=CLIENT
controller.listener.names=CONTROLLER
log.dirs={log_dir}
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
"""


class ApacheKafkaError(Exception):
    """The broker could not be resolved, formatted or started."""


def missing_tools() -> str | None:
    """Why Apache Kafka cannot run on this machine, or None when it can."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            return f"{tool} is not on the PATH (needed: Java {_OLDEST_JAVA}+ and Maven)"
    # `java -version` answers on stderr: openjdk version "17.0.15" …
    answer = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', answer.stderr)
    if found is None or int(found.group(1)) < _OLDEST_JAVA:
        return f"Java {_OLDEST_JAVA}+ is needed, `java -version` says {answer.stderr.strip()!r}"
    return None


def broker_classpath() -> str:
    """The broker's jars as a Java class path; resolved once, then kept beside the pom.

    Raises `ApacheKafkaError` when Maven cannot resolve them.
    """
    kept = POM.parent / "target" / "classpath"
    if kept.exists() and kept.stat().st_mtime > POM.stat().st_mtime:
        classpath = kept.read_text().strip()
        if all(Path(jar).exists() for jar in classpath.split(":")):
            return classpath
    kept.parent.mkdir(exist_ok=True)
    _run(
        *("mvn", "--batch-mode", "--quiet", "--no-transfer-progress", "--file", str(POM)),
        *("dependency:build-classpath", f"-Dmdep.outputFile={kept}"),
        timeout_s=_RESOLVE_TIMEOUT_S,
    )
    return kept.read_text().strip()


class ApacheKafka:
    """One Apache Kafka node. Its address and its data survive `kill` and `restart`.

    Every method blocks until it is done: from async tests, call them by `asyncio.to_thread`.
    """

    def __init__(self, directory: Path) -> None:
        """Prepare a node with a cluster id of its own, all its files in `directory`."""
        port, controller_port = _free_ports(2)
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.log = directory / "broker.log"
        self._properties = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        self._java = ("java", "-Xms128m", "-Xmx512m", "-Dlog4j2.level=INFO")
        self._classpath = broker_classpath()
        self._properties.write_text(
            _SERVER_PROPERTIES.format(
                port=port, controller_port=controller_port, log_dir=directory / "data"
            )
        )
        _run(
            *(*self._java, "-cp", self._classpath, "kafka.tools.StorageTool", "format"),
            *("--cluster-id", self.cluster_id, "--config", str(self._properties)),
            timeout_s=_START_TIMEOUT_S,
        )

    def start(self) -> None:
        """Start the node and wait until it serves clients."""
        offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java, "-cp", self._classpath, "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while _STARTED not in self._log_from(offset):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ApacheKafkaError(
                    f"Apache Kafka did not start within {_START_TIMEOUT_S} s:\n"
                    + self._log_from(offset)[-4000:]
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the node down as an operator would. Harmless when it is not running."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the node by SIGKILL, as a power cut would. Harmless when it is not running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop it and start it again, same address, same data."""
        self.stop()
        self.start()

    def _log_from(self, offset: int) -> str:
        return self.log.read_bytes()[offset:].decode(errors="replace")


def _free_ports(count: int) -> list[int]:
    # All are held until all are found, or the same one could come twice.
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _run(*command: str, timeout_s: float) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise ApacheKafkaError(
            f"`{' '.join(command)[:200]}` ended with {done.returncode}:\n{done.stdout[-4000:]}"
        )
