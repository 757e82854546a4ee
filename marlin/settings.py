"""Every setting of Marlin, declared once.

Each is read from the environment as `MARLIN_<GROUP>__<NAME>` (for instance
`MARLIN_KAFKA__BOOTSTRAP_SERVERS`), from a `.env` file in the working directory, or given in code.
Durations are in seconds (`_s`), milliseconds (`_ms`) or days (`_days`), sizes in bytes (`_bytes`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = [
    "GatewaySettings",
    "GridSettings",
    "KafkaSettings",
    "OtelSettings",
    "RuntimeSettings",
    "Settings",
    "SinkSettings",
    "WorkerSettings",
]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KafkaSettings(_Group):
    """How the cluster is reached, and what its topics look like."""

    bootstrap_servers: str | None = None
    """`host:port[,host:port…]`. Unset: the embedded broker that `marlin up` started, if any."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """How clients talk to the brokers: encrypted with SSL, with a password with SASL."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How the password is proved, where `security_protocol` has SASL."""
    sasl_username: str | None = None
    """Who Marlin is to the brokers, where `security_protocol` has SASL."""
    sasl_password: SecretStr | None = None
    """That user's password."""
    ssl_cafile: Path | None = None
    """PEM file of the authority that signed the brokers' certificates. Unset: the system's."""
    ssl_certfile: Path | None = None
    """PEM file of Marlin's own certificate, where the brokers ask for one."""
    ssl_keyfile: Path | None = None
    """PEM file of that certificate's private key."""
    ssl_keyfile_password: SecretStr | None = None
    """What the private key is encrypted with. Unset: it is not."""
    topic_prefix: str = ""
    """Put before every topic and group name, so that several Marlins can share a cluster."""
    partitions: Annotated[int, Field(ge=1, le=1024)] = 8
    """Partitions of the topics that Marlin creates."""
    replication_factor: Annotated[int, Field(ge=1, le=8)] = 1
    """Replicas of the topics that Marlin creates. Use 3 on a real cluster."""
    max_message_bytes: Annotated[int, Field(ge=1024)] = 4 * 1024 * 1024
    """Largest record that the events and dead-letter topics take [bytes]."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Longest a request to the brokers may take [s]."""


class RuntimeSettings(_Group):
    """How a process with agents talks to the pipeline: in the background, never waited for."""

    buffer_events: Annotated[int, Field(ge=1)] = 20_000
    """Events kept in memory when they can neither be sent nor written to the spill file; about
    1 KB each. Further ones are dropped and counted."""
    spill: bool = True
    """Write events that cannot be sent to a file; this or a later process sends them."""
    spill_dir: Path | None = None
    """Folder of the spill files. Unset: `spill` in `MARLIN_HOME`."""
    spill_max_bytes: Annotated[int, Field(ge=1024 * 1024)] = 256 * 1024 * 1024
    """Largest spill file of a process [bytes]; an event takes about 400."""
    spill_after_s: Annotated[float, Field(gt=0)] = 1.0
    """Events are written to the spill file when none got through for so long [s]; at once when
    Kafka is known to be away."""
    flush_timeout_s: Annotated[float, Field(ge=0)] = 5.0
    """Longest a run waits at its end for its events to reach Kafka [s]."""
    close_timeout_s: Annotated[float, Field(ge=0)] = 5.0
    """Longest the end of the process waits for events to reach Kafka [s]; then they are spilled."""
    reconnect_max_s: Annotated[float, Field(gt=0)] = 15.0
    """Longest pause between two attempts to reach Kafka [s]."""
    fetch_max_wait_ms: Annotated[int, Field(ge=1)] = 500
    """Longest the broker may hold a fetch for commands [ms]. Kafka answers as soon as one comes;
    for the embedded broker, which does not, 10 ms is used."""


class WorkerSettings(_Group):
    """The stream worker: `marlin worker`."""

    batch_records: Annotated[int, Field(ge=1, le=100_000)] = 5000
    """Most records of one partition handled at once. Larger: more throughput, later aborts."""
    batches_in_flight: Annotated[int, Field(ge=1, le=16)] = 2
    """Batches of a partition whose outputs may be on their way to Kafka at the same time."""
    buffered_batches: Annotated[int, Field(ge=2, le=64)] = 4
    """Fetched batches that may wait in memory; a full buffer stops fetching."""
    fetch_max_wait_ms: Annotated[int, Field(ge=1)] = 20
    """Longest the broker may hold an empty fetch [ms]. Bounds the abort latency when idle."""
    commit_interval_s: Annotated[float, Field(gt=0)] = 1.0
    """How often the worker commits what it has handled [s]; what is not yet committed is read again
    after a crash, and counted once all the same."""
    session_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """A worker unheard of for so long is replaced by another [s]."""
    max_event_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024
    """Events above this are dead-lettered [bytes]. The largest valid event is smaller; a hostile
    one of a megabyte would hold its partition up for seconds while it is refused."""
    finished_run_grace_s: Annotated[float, Field(ge=0)] = 600.0
    """A finished run leaves the table so long after its last event [s]; DuckDB keeps it."""
    idle_run_expiry_s: Annotated[float, Field(gt=0)] = 86_400.0
    """A run that never finished leaves the table after so long without an event [s]."""
    expiry_interval_s: Annotated[float, Field(gt=0)] = 5.0
    """How often runs that may leave are looked for [s]."""
    abort_deadline_s: Annotated[float, Field(gt=0)] = 30.0
    """A run that was told to abort and has not acknowledged it after so long [s] is escalated."""
    standby_replicas: Annotated[int, Field(ge=0, le=4)] = 0
    """Further workers that keep a warm copy of each partition, to take over at once."""
    on_recreated_topic: Literal["refuse", "continue"] = "refuse"
    """What to do when the events topic was deleted and made again: stop with an error, or count
    the new one from its start."""


class SinkSettings(_Group):
    """The DuckDB sink: `marlin sink`."""

    database: Path | None = None
    """DuckDB file. Unset: `marlin.duckdb` in `MARLIN_HOME`."""
    batch_records: Annotated[int, Field(ge=1)] = 122_880
    """Most records in one transaction. The default is DuckDB's row group: a full one is compressed
    once and skips the write-ahead log."""
    flush_interval_s: Annotated[float, Field(gt=0)] = 0.2
    """Longest a record waits for its transaction [s], unless a full batch is worth the wait."""
    full_batch_wait_s: Annotated[float, Field(ge=0)] = 2.0
    """While records come so fast that a batch fills within this time [s], it is waited for: a
    record of a full batch costs less than half of the processor time. 0: never."""
    memory_limit_bytes: Annotated[int, Field(ge=256 * 1024 * 1024)] = 2 * 1024**3
    """What DuckDB may hold in memory, the sink and all queries together [bytes]; queries that
    need more spill to disk."""
    temp_limit_bytes: Annotated[int, Field(ge=0)] = 10 * 1024**3
    """What queries may spill to disk, together [bytes]; 0: nothing."""
    threads: Annotated[int, Field(ge=1, le=256)] = 1
    """Processors that one query, or the storing of one batch, may use at a time. Storing a batch
    with two costs nearly twice the processor time that it costs with one."""
    max_queries: Annotated[int, Field(ge=1, le=64)] = 4
    """Queries that run at the same time; more of them wait."""
    query_timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """A query is stopped after so long [s]."""
    query_max_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """Most rows that a query may give [count]; the rest is cut off, which the answer tells."""
    ledger_retention_days: Annotated[int, Field(ge=1)] | None = None
    """Whole days (UTC) that `events` keeps before today; the sink removes older ones. Aggregates
    and what was restated stay. Unset: for ever."""
    dead_letter_retention_days: Annotated[int, Field(ge=1)] | None = None
    """Whole days (UTC) that `dead_letters` keeps before today. Unset: for ever."""
    lake_catalog: str | None = None
    """Catalogue of a DuckLake that several sinks write together, instead of `database`:
    `sqlite:/path/catalog.sqlite` or `postgres:dbname=… host=…`. Unset: `database` is used."""
    lake_data_path: str | None = None
    """Where the lake's Parquet files are: a folder, or `s3://bucket/prefix`. The lake keeps the one
    it was made with."""
    lake_tidy_interval_s: Annotated[float, Field(gt=0)] = 3600.0
    """How often each sink merges the lake's small files and the parts of its sums [s]."""
    s3_endpoint: str | None = None
    """`host:port` of an S3-compatible store. Unset: Amazon's."""
    s3_access_key_id: str | None = None
    """Name of the key that the store is used with."""
    s3_secret_access_key: SecretStr | None = None
    """The secret half of that key."""
    s3_region: str = "us-east-1"
    """Region of the bucket."""
    s3_use_ssl: bool = True
    """Reach the store over TLS. Switch off only within one machine."""
    session_timeout_s: Annotated[float, Field(ge=6)] = 10.0
    """Of several sinks of a lake, one unheard of for so long is replaced by the others [s]."""


class GatewaySettings(_Group):
    """Events over HTTP: `marlin gateway`."""

    host: str = "127.0.0.1"
    """Address to listen on. Other machines reach only another one, which needs a token."""
    port: Annotated[int, Field(ge=1, le=65_535)] = 8585
    """Port to listen on."""
    token: SecretStr | None = None
    """Senders must give it as a bearer token, 16 characters or more. Unset: they need none."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024 * 1024
    """Requests above this are refused [bytes]."""
    max_batch_events: Annotated[int, Field(ge=1, le=100_000)] = 5000
    """Most events in one request."""
    request_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    """Longest that a request's body may take to come, and then Kafka to confirm its events [s]."""

    @field_validator("token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        # An empty one, as from a variable that was never filled, must not open the gateway.
        if token is not None and len(token.get_secret_value()) < 16:
            raise ValueError(
                "a token of at least 16 characters is expected, as from `openssl rand -hex 16`"
            )
        return token


def _listed(value: object) -> object:
    """`a, b` as a list, and `["a", "b"]` too; what is no text stays."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


_Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]


class OtelSettings(_Group):
    """OpenTelemetry spans as usage: read by `marlin worker`, off unless switched on."""

    enabled: bool = False
    """Read spans. Needs the extra: `pip install 'marlin-carbon[pipeline,otel]'`."""
    topics: Annotated[_Names, Field(min_length=1)] = ("otlp_spans",)
    """What the Collector's Kafka exporter writes to; not prefixed. Created where missing."""
    run_id_attributes: _Names = ("marlin.run_id", "gen_ai.conversation.id", "session.id")
    """The first of these that a span has, else that its resource has, is its run. A span with
    none of them belongs to a run named by its trace id."""
    hold_back_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """How long a span waits for those inside it, which may come in other records and later [s].
    Their tokens would else count twice where a framework repeats them."""
    remembered_spans: Annotated[int, Field(ge=1000)] = 50_000
    """Spans of each partition that are remembered [count], to know a span that comes again and
    those around it; 500 bytes each at most. A restart reads twice as many again."""


class GridSettings(_Group):
    """Hourly carbon intensity of electricity: `marlin grid`. Needs the extra `grid`."""

    provider: Annotated[
        tuple[Literal["electricitymaps", "watttime", "ukci", "eia", "entsoe"], ...],
        NoDecode,
        BeforeValidator(_listed),
    ] = ()
    """Where intensity comes from: one, or several with commas, the preferred one first. Unset:
    yearly averages, without any network."""
    zones: _Names = ()
    """Electricity Maps zones that are asked for, with commas, such as `DE,US-MIDA-PJM`."""
    poll_interval_s: Annotated[float, Field(ge=1)] = 900.0
    """How often the newest hours are asked for [s]."""
    electricitymaps_token: SecretStr | None = None
    """Token for Electricity Maps."""
    electricitymaps_url: str = "https://api.electricitymaps.com/v3"
    """Where Electricity Maps answers."""
    watttime_username: str | None = None
    """Name of the account with WattTime."""
    watttime_password: SecretStr | None = None
    """That account's password."""
    watttime_url: str = "https://api.watttime.org"
    """Where WattTime answers. Its values are marginal: a memo."""
    ukci_url: str = "https://api.carbonintensity.org.uk"
    """The UK Carbon Intensity API needs no token. Its values are direct: a memo."""
    eia_api_key: SecretStr | None = None
    """Key for the EIA, the statistics of the United States."""
    eia_url: str = "https://api.eia.gov/v2"
    """Where the EIA answers."""
    entsoe_token: SecretStr | None = None
    """Token for ENTSO-E, the grid operators of Europe."""
    entsoe_url: str = "https://web-api.tp.entsoe.eu/api"
    """Where ENTSO-E answers."""
    timeout_s: Annotated[float, Field(gt=0)] = 15.0
    """Longest one request may take [s]."""
    attempts: Annotated[int, Field(ge=1, le=10)] = 4
    """Requests that are made for one answer, before its source counts as unavailable."""
    retry_max_s: Annotated[float, Field(ge=0)] = 30.0
    """Longest pause between two of them [s]; a source that asks for a longer one is left alone
    for as long."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024 * 1024
    """Answers above this are refused [bytes]."""
    cache_dir: Path | None = None
    """Folder of the values that were fetched. Unset: `grid` in `MARLIN_HOME`."""
    cache_max_hours: Annotated[int, Field(ge=24)] = 500_000
    """Most hours that are kept, all zones together; the oldest leave. About 150 bytes each."""
    refresh_after_s: Annotated[float, Field(ge=0)] = 900.0
    """Hours that are estimated, forecast or still missing are asked for again after so long [s].
    Measured ones are kept."""
    join: bool | None = None
    """Whether the worker counts events with the hourly values on the grid topic, and the sink
    adjusts for what came late. Unset: where `provider` is set."""
    history_hours: Annotated[int, Field(ge=1, le=720)] = 48
    """How far back `marlin grid publish` looks for values that came late or were revised [h]."""
    forecast_hours: Annotated[int, Field(ge=0, le=24)] = 2
    """How far ahead it publishes forecasts [h], from the present hour on; a measured value later
    revises them. 0: no forecast is ever counted with."""
    keep_days: Annotated[int, Field(ge=8, le=400)] = 40
    """Hours that a worker remembers [d]. Events sent more than 7 days after their hour have none,
    so a worker may be that much behind and still count as it would have then."""
    adjust_interval_s: Annotated[float, Field(gt=0)] = 3600.0
    """How often the sink looks for hours whose value came late or was revised [s]."""
    adjust_days: Annotated[int, Field(ge=1, le=400)] = 30
    """How far back it looks [d]."""

    @property
    def publishes(self) -> bool:
        """Whether there are zones, and a provider of values that footprints are counted with."""
        return bool(self.zones) and not {"electricitymaps", "eia", "entsoe"}.isdisjoint(
            self.provider
        )

    @property
    def joins(self) -> bool:
        """`join`, or what it is where unset."""
        return bool(self.provider) if self.join is None else self.join

    error_pause_s: Annotated[float, Field(ge=0)] = 60.0
    """A source that failed is not asked for that zone again for so long [s]."""
    uncovered_pause_s: Annotated[float, Field(ge=0)] = 86_400.0
    """A zone that a source does not have is not asked for again for so long [s]."""


class Settings(BaseSettings):
    """All settings. `Settings()` reads the environment."""

    model_config = SettingsConfigDict(
        env_prefix="MARLIN_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    home: Path = Path("~/.marlin")
    """Where Marlin keeps its database, its logs and the address of a running `marlin up`."""
    mock: bool = False
    """Use the built-in mock model client (`MESHFLOW_MOCK=1` does the same)."""
    kafka: KafkaSettings = KafkaSettings()
    runtime: RuntimeSettings = RuntimeSettings()
    worker: WorkerSettings = WorkerSettings()
    sink: SinkSettings = SinkSettings()
    gateway: GatewaySettings = GatewaySettings()
    otel: OtelSettings = OtelSettings()
    grid: GridSettings = GridSettings()

    @property
    def home_dir(self) -> Path:
        """`home` with `~` resolved. Not created here."""
        return self.home.expanduser()

    @property
    def database_path(self) -> Path:
        """The DuckDB file in use."""
        return (self.sink.database or self.home_dir / "marlin.duckdb").expanduser()

    @property
    def spill_path(self) -> Path:
        """The folder of the spill files. Not created here."""
        return (self.runtime.spill_dir or self.home_dir / "spill").expanduser()

    @property
    def grid_cache_path(self) -> Path:
        """The folder of fetched grid intensities. Not created here."""
        return (self.grid.cache_dir or self.home_dir / "grid").expanduser()
