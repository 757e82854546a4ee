-- The ledger, its aggregates, and how far the topics have been taken in.
--
-- No primary keys and no indexes: they would cost more than the rest of the ingest. That every
-- event counts once comes from the positions, which move in the transaction that writes the rows.

CREATE TABLE schema_versions (
    version INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    marlin_version VARCHAR NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE schema_versions IS 'Migrations that this file has been through; the highest version is its schema.';
COMMENT ON COLUMN schema_versions.version IS 'Number of the migration.';
COMMENT ON COLUMN schema_versions.name IS 'Name of the migration''s SQL file.';
COMMENT ON COLUMN schema_versions.marlin_version IS 'Version of Marlin that applied it.';
COMMENT ON COLUMN schema_versions.applied_at IS 'When it was applied (UTC).';

CREATE TABLE sources (
    source_id INTEGER NOT NULL,
    cluster_id VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    topic_id VARCHAR,
    first_seen_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE sources IS 'Kafka topics that were read, each as it existed: a recreated topic or cluster is a new source.';
COMMENT ON COLUMN sources.source_id IS 'Number of the source, from 1.';
COMMENT ON COLUMN sources.cluster_id IS 'Id of the Kafka cluster.';
COMMENT ON COLUMN sources.topic IS 'Name of the topic.';
COMMENT ON COLUMN sources.topic_id IS 'Id of the topic, new whenever it is recreated; NULL where the broker gives none.';
COMMENT ON COLUMN sources.first_seen_at IS 'When the sink first met it (UTC).';

CREATE TABLE positions (
    source_id INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    next_offset BIGINT NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE positions IS 'How far each source has been taken in; written in the same transaction as what was taken in.';
COMMENT ON COLUMN positions.source_id IS 'Source: see sources.';
COMMENT ON COLUMN positions.partition IS 'Partition of the source.';
COMMENT ON COLUMN positions.kind IS 'read: the sink reads this topic and goes on at next_offset. applied, refused: this is an events topic; its records below next_offset are in events and runs (applied) or in dead_letters (refused), and come again only as duplicates.';
COMMENT ON COLUMN positions.next_offset IS 'One above the highest offset taken in.';
COMMENT ON COLUMN positions.updated_at IS 'When it last moved (UTC).';

CREATE TABLE events (
    event_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    agent_id VARCHAR NOT NULL,
    producer_id VARCHAR NOT NULL,
    seq BIGINT NOT NULL,
    event_time TIMESTAMPTZ NOT NULL,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    region VARCHAR NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    latency_s DOUBLE,
    cost_usd DOUBLE,
    tenant VARCHAR,
    project VARCHAR,
    labels JSON,
    usage_quality VARCHAR NOT NULL,
    energy_wh DOUBLE NOT NULL,
    energy_wh_low DOUBLE NOT NULL,
    energy_wh_high DOUBLE NOT NULL,
    carbon_g DOUBLE NOT NULL,
    carbon_g_low DOUBLE NOT NULL,
    carbon_g_high DOUBLE NOT NULL,
    embodied_g DOUBLE NOT NULL,
    embodied_g_low DOUBLE NOT NULL,
    embodied_g_high DOUBLE NOT NULL,
    water_ml DOUBLE NOT NULL,
    water_ml_low DOUBLE NOT NULL,
    water_ml_high DOUBLE NOT NULL,
    intensity_g_per_kwh DOUBLE NOT NULL,
    method VARCHAR NOT NULL,
    factors VARCHAR NOT NULL,
    quality VARCHAR[] NOT NULL,
    source_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    ingested_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE events IS 'The ledger: one row per model call, never updated.';
COMMENT ON COLUMN events.event_id IS 'Id of the usage event.';
COMMENT ON COLUMN events.run_id IS 'Run that made the call.';
COMMENT ON COLUMN events.agent_id IS 'Agent that made the call.';
COMMENT ON COLUMN events.producer_id IS 'Runtime process that sent the event.';
COMMENT ON COLUMN events.seq IS 'Number of the event within its producer and run, from 0.';
COMMENT ON COLUMN events.event_time IS 'When the call happened (UTC).';
COMMENT ON COLUMN events.provider IS 'Provider of the model.';
COMMENT ON COLUMN events.model IS 'Model that was called.';
COMMENT ON COLUMN events.region IS 'Region where it ran, as told by the runtime.';
COMMENT ON COLUMN events.input_tokens IS 'Fresh input tokens of the call: computed, not served from a cache, not stored in one [count].';
COMMENT ON COLUMN events.cache_read_tokens IS 'Input tokens of the call that were served from a cache [count].';
COMMENT ON COLUMN events.cache_write_tokens IS 'Input tokens of the call that were computed and stored in a cache [count].';
COMMENT ON COLUMN events.output_tokens IS 'Output tokens of the call, reasoning included [count].';
COMMENT ON COLUMN events.reasoning_tokens IS 'Reasoning tokens of the call, part of output_tokens [count].';
COMMENT ON COLUMN events.latency_s IS 'Duration of the call [s]; NULL: not told.';
COMMENT ON COLUMN events.cost_usd IS 'Cost of the call [USD]; NULL: not told.';
COMMENT ON COLUMN events.tenant IS 'Tenant that the call is accounted to.';
COMMENT ON COLUMN events.project IS 'Project that the call is accounted to.';
COMMENT ON COLUMN events.labels IS 'Free labels, an object of texts: labels->>''name''.';
COMMENT ON COLUMN events.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN events.energy_wh IS 'Energy of the data centre, central estimate [Wh].';
COMMENT ON COLUMN events.energy_wh_low IS 'Energy of the data centre, low end estimate [Wh].';
COMMENT ON COLUMN events.energy_wh_high IS 'Energy of the data centre, high end estimate [Wh].';
COMMENT ON COLUMN events.carbon_g IS 'Operational carbon, location-based, central estimate [gCO2e].';
COMMENT ON COLUMN events.carbon_g_low IS 'Operational carbon, location-based, low end estimate [gCO2e].';
COMMENT ON COLUMN events.carbon_g_high IS 'Operational carbon, location-based, high end estimate [gCO2e].';
COMMENT ON COLUMN events.embodied_g IS 'Embodied carbon of the hardware, apart from carbon_g, central estimate [gCO2e].';
COMMENT ON COLUMN events.embodied_g_low IS 'Embodied carbon of the hardware, apart from carbon_g, low end estimate [gCO2e].';
COMMENT ON COLUMN events.embodied_g_high IS 'Embodied carbon of the hardware, apart from carbon_g, high end estimate [gCO2e].';
COMMENT ON COLUMN events.water_ml IS 'Water, central estimate [mL].';
COMMENT ON COLUMN events.water_ml_low IS 'Water, low end estimate [mL].';
COMMENT ON COLUMN events.water_ml_high IS 'Water, high end estimate [mL].';
COMMENT ON COLUMN events.intensity_g_per_kwh IS 'Carbon intensity of electricity that was used [gCO2e/kWh].';
COMMENT ON COLUMN events.method IS 'Version of the estimation method.';
COMMENT ON COLUMN events.factors IS 'Version of the factor set.';
COMMENT ON COLUMN events.quality IS 'Codes that say what was assumed, such as model_unknown.';
COMMENT ON COLUMN events.source_id IS 'Events topic that the event came through: see sources.';
COMMENT ON COLUMN events.source_partition IS 'Partition of the event on that topic.';
COMMENT ON COLUMN events.source_offset IS 'Offset of the event on that partition.';
COMMENT ON COLUMN events.ingested_at IS 'When the sink took it in (UTC).';

CREATE TABLE runs (
    run_id VARCHAR NOT NULL,
    task VARCHAR,
    tenant VARCHAR,
    project VARCHAR,
    enable_environmental BOOLEAN,
    carbon_budget_g DOUBLE,
    warn_at JSON,
    bound VARCHAR,
    action VARCHAR,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    started_at TIMESTAMPTZ,
    finished_at TIMESTAMPTZ,
    finished_status VARCHAR,
    finished_reason VARCHAR,
    first_event_time TIMESTAMPTZ,
    last_event_time TIMESTAMPTZ,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    energy_wh DOUBLE NOT NULL,
    energy_wh_low DOUBLE NOT NULL,
    energy_wh_high DOUBLE NOT NULL,
    carbon_g DOUBLE NOT NULL,
    carbon_g_low DOUBLE NOT NULL,
    carbon_g_high DOUBLE NOT NULL,
    embodied_g DOUBLE NOT NULL,
    embodied_g_low DOUBLE NOT NULL,
    embodied_g_high DOUBLE NOT NULL,
    water_ml DOUBLE NOT NULL,
    water_ml_low DOUBLE NOT NULL,
    water_ml_high DOUBLE NOT NULL,
    cost_usd DOUBLE,
    command_id VARCHAR,
    aborted_at TIMESTAMPTZ,
    command_reason VARCHAR,
    ack_outcome VARCHAR,
    stopped_at TIMESTAMPTZ,
    overshoot_g DOUBLE
);
COMMENT ON TABLE runs IS 'One row per run: policy, outcome and totals, kept up to date with every batch.';
COMMENT ON COLUMN runs.run_id IS 'Id of the run.';
COMMENT ON COLUMN runs.task IS 'What the run is about, as told by run.started.';
COMMENT ON COLUMN runs.tenant IS 'Tenant: from run.started, else from the first call that names one.';
COMMENT ON COLUMN runs.project IS 'Project: from run.started, else from the first call that names one.';
COMMENT ON COLUMN runs.enable_environmental IS 'Whether the policy enforces the budget; NULL: no run.started yet.';
COMMENT ON COLUMN runs.carbon_budget_g IS 'Budget [gCO2e]; NULL: none.';
COMMENT ON COLUMN runs.warn_at IS 'Shares of the budget at which a warning is published, an array of numbers.';
COMMENT ON COLUMN runs.bound IS 'End of the range that counts against the budget: low, central, high.';
COMMENT ON COLUMN runs.action IS 'What a breach asks the runtime to do: abort, pause, warn.';
COMMENT ON COLUMN runs.status IS 'running, completed, aborted, failed. aborted also when the runtime acknowledged an abort without run.finished.';
COMMENT ON COLUMN runs.reason IS 'Why it ended: from run.finished, else, of an aborted run, the abort command''s reason.';
COMMENT ON COLUMN runs.started_at IS 'Time of run.started (UTC); NULL: none has come.';
COMMENT ON COLUMN runs.finished_at IS 'Time of run.finished (UTC); NULL: none has come.';
COMMENT ON COLUMN runs.finished_status IS 'Status as run.finished told it.';
COMMENT ON COLUMN runs.finished_reason IS 'Reason as run.finished told it.';
COMMENT ON COLUMN runs.first_event_time IS 'Time of the earliest call (UTC).';
COMMENT ON COLUMN runs.last_event_time IS 'Time of the latest call (UTC).';
COMMENT ON COLUMN runs.calls IS 'Model calls of the run [count].';
COMMENT ON COLUMN runs.input_tokens IS 'Fresh input tokens of the run: computed, not served from a cache, not stored in one [count].';
COMMENT ON COLUMN runs.cache_read_tokens IS 'Input tokens of the run that were served from a cache [count].';
COMMENT ON COLUMN runs.cache_write_tokens IS 'Input tokens of the run that were computed and stored in a cache [count].';
COMMENT ON COLUMN runs.output_tokens IS 'Output tokens of the run, reasoning included [count].';
COMMENT ON COLUMN runs.reasoning_tokens IS 'Reasoning tokens of the run, part of output_tokens [count].';
COMMENT ON COLUMN runs.energy_wh IS 'Energy of the data centre of the run, central estimate [Wh].';
COMMENT ON COLUMN runs.energy_wh_low IS 'Energy of the data centre of the run, low end estimate [Wh].';
COMMENT ON COLUMN runs.energy_wh_high IS 'Energy of the data centre of the run, high end estimate [Wh].';
COMMENT ON COLUMN runs.carbon_g IS 'Operational carbon, location-based of the run, central estimate [gCO2e].';
COMMENT ON COLUMN runs.carbon_g_low IS 'Operational carbon, location-based of the run, low end estimate [gCO2e].';
COMMENT ON COLUMN runs.carbon_g_high IS 'Operational carbon, location-based of the run, high end estimate [gCO2e].';
COMMENT ON COLUMN runs.embodied_g IS 'Embodied carbon of the hardware, apart from carbon_g of the run, central estimate [gCO2e].';
COMMENT ON COLUMN runs.embodied_g_low IS 'Embodied carbon of the hardware, apart from carbon_g of the run, low end estimate [gCO2e].';
COMMENT ON COLUMN runs.embodied_g_high IS 'Embodied carbon of the hardware, apart from carbon_g of the run, high end estimate [gCO2e].';
COMMENT ON COLUMN runs.water_ml IS 'Water of the run, central estimate [mL].';
COMMENT ON COLUMN runs.water_ml_low IS 'Water of the run, low end estimate [mL].';
COMMENT ON COLUMN runs.water_ml_high IS 'Water of the run, high end estimate [mL].';
COMMENT ON COLUMN runs.cost_usd IS 'Cost of the run as far as runtimes told it [USD]; NULL: nothing told.';
COMMENT ON COLUMN runs.command_id IS 'Abort command to the run, the earliest if there are several; NULL: none.';
COMMENT ON COLUMN runs.aborted_at IS 'When that command was issued (UTC).';
COMMENT ON COLUMN runs.command_reason IS 'Reason that the command gives.';
COMMENT ON COLUMN runs.ack_outcome IS 'What the runtime did with an abort: stopped, already_finished, refused; NULL: not acknowledged.';
COMMENT ON COLUMN runs.stopped_at IS 'When the runtime stopped (UTC).';
COMMENT ON COLUMN runs.overshoot_g IS 'Spent beyond the budget until the run stopped [gCO2e].';

CREATE TABLE agents (
    run_id VARCHAR NOT NULL,
    agent_id VARCHAR NOT NULL,
    first_event_time TIMESTAMPTZ NOT NULL,
    last_event_time TIMESTAMPTZ NOT NULL,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    energy_wh DOUBLE NOT NULL,
    energy_wh_low DOUBLE NOT NULL,
    energy_wh_high DOUBLE NOT NULL,
    carbon_g DOUBLE NOT NULL,
    carbon_g_low DOUBLE NOT NULL,
    carbon_g_high DOUBLE NOT NULL,
    embodied_g DOUBLE NOT NULL,
    embodied_g_low DOUBLE NOT NULL,
    embodied_g_high DOUBLE NOT NULL,
    water_ml DOUBLE NOT NULL,
    water_ml_low DOUBLE NOT NULL,
    water_ml_high DOUBLE NOT NULL,
    cost_usd DOUBLE
);
COMMENT ON TABLE agents IS 'One row per run and agent: totals of its calls.';
COMMENT ON COLUMN agents.run_id IS 'Run.';
COMMENT ON COLUMN agents.agent_id IS 'Agent within the run.';
COMMENT ON COLUMN agents.first_event_time IS 'Time of the earliest call (UTC).';
COMMENT ON COLUMN agents.last_event_time IS 'Time of the latest call (UTC).';
COMMENT ON COLUMN agents.calls IS 'Model calls of the agent [count].';
COMMENT ON COLUMN agents.input_tokens IS 'Fresh input tokens of the agent: computed, not served from a cache, not stored in one [count].';
COMMENT ON COLUMN agents.cache_read_tokens IS 'Input tokens of the agent that were served from a cache [count].';
COMMENT ON COLUMN agents.cache_write_tokens IS 'Input tokens of the agent that were computed and stored in a cache [count].';
COMMENT ON COLUMN agents.output_tokens IS 'Output tokens of the agent, reasoning included [count].';
COMMENT ON COLUMN agents.reasoning_tokens IS 'Reasoning tokens of the agent, part of output_tokens [count].';
COMMENT ON COLUMN agents.energy_wh IS 'Energy of the data centre of the agent, central estimate [Wh].';
COMMENT ON COLUMN agents.energy_wh_low IS 'Energy of the data centre of the agent, low end estimate [Wh].';
COMMENT ON COLUMN agents.energy_wh_high IS 'Energy of the data centre of the agent, high end estimate [Wh].';
COMMENT ON COLUMN agents.carbon_g IS 'Operational carbon, location-based of the agent, central estimate [gCO2e].';
COMMENT ON COLUMN agents.carbon_g_low IS 'Operational carbon, location-based of the agent, low end estimate [gCO2e].';
COMMENT ON COLUMN agents.carbon_g_high IS 'Operational carbon, location-based of the agent, high end estimate [gCO2e].';
COMMENT ON COLUMN agents.embodied_g IS 'Embodied carbon of the hardware, apart from carbon_g of the agent, central estimate [gCO2e].';
COMMENT ON COLUMN agents.embodied_g_low IS 'Embodied carbon of the hardware, apart from carbon_g of the agent, low end estimate [gCO2e].';
COMMENT ON COLUMN agents.embodied_g_high IS 'Embodied carbon of the hardware, apart from carbon_g of the agent, high end estimate [gCO2e].';
COMMENT ON COLUMN agents.water_ml IS 'Water of the agent, central estimate [mL].';
COMMENT ON COLUMN agents.water_ml_low IS 'Water of the agent, low end estimate [mL].';
COMMENT ON COLUMN agents.water_ml_high IS 'Water of the agent, high end estimate [mL].';
COMMENT ON COLUMN agents.cost_usd IS 'Cost of the agent as far as runtimes told it [USD]; NULL: nothing told.';

CREATE TABLE hourly (
    hour TIMESTAMPTZ NOT NULL,
    tenant VARCHAR,
    project VARCHAR,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    region VARCHAR NOT NULL,
    calls BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    energy_wh DOUBLE NOT NULL,
    energy_wh_low DOUBLE NOT NULL,
    energy_wh_high DOUBLE NOT NULL,
    carbon_g DOUBLE NOT NULL,
    carbon_g_low DOUBLE NOT NULL,
    carbon_g_high DOUBLE NOT NULL,
    embodied_g DOUBLE NOT NULL,
    embodied_g_low DOUBLE NOT NULL,
    embodied_g_high DOUBLE NOT NULL,
    water_ml DOUBLE NOT NULL,
    water_ml_low DOUBLE NOT NULL,
    water_ml_high DOUBLE NOT NULL,
    cost_usd DOUBLE
);
COMMENT ON TABLE hourly IS 'Totals per hour and account: small, and kept when old events are removed.';
COMMENT ON COLUMN hourly.hour IS 'Begin of the hour of event_time (UTC).';
COMMENT ON COLUMN hourly.tenant IS 'Tenant.';
COMMENT ON COLUMN hourly.project IS 'Project.';
COMMENT ON COLUMN hourly.provider IS 'Provider.';
COMMENT ON COLUMN hourly.model IS 'Model.';
COMMENT ON COLUMN hourly.region IS 'Region.';
COMMENT ON COLUMN hourly.calls IS 'Model calls of the hour [count].';
COMMENT ON COLUMN hourly.input_tokens IS 'Fresh input tokens of the hour: computed, not served from a cache, not stored in one [count].';
COMMENT ON COLUMN hourly.cache_read_tokens IS 'Input tokens of the hour that were served from a cache [count].';
COMMENT ON COLUMN hourly.cache_write_tokens IS 'Input tokens of the hour that were computed and stored in a cache [count].';
COMMENT ON COLUMN hourly.output_tokens IS 'Output tokens of the hour, reasoning included [count].';
COMMENT ON COLUMN hourly.reasoning_tokens IS 'Reasoning tokens of the hour, part of output_tokens [count].';
COMMENT ON COLUMN hourly.energy_wh IS 'Energy of the data centre of the hour, central estimate [Wh].';
COMMENT ON COLUMN hourly.energy_wh_low IS 'Energy of the data centre of the hour, low end estimate [Wh].';
COMMENT ON COLUMN hourly.energy_wh_high IS 'Energy of the data centre of the hour, high end estimate [Wh].';
COMMENT ON COLUMN hourly.carbon_g IS 'Operational carbon, location-based of the hour, central estimate [gCO2e].';
COMMENT ON COLUMN hourly.carbon_g_low IS 'Operational carbon, location-based of the hour, low end estimate [gCO2e].';
COMMENT ON COLUMN hourly.carbon_g_high IS 'Operational carbon, location-based of the hour, high end estimate [gCO2e].';
COMMENT ON COLUMN hourly.embodied_g IS 'Embodied carbon of the hardware, apart from carbon_g of the hour, central estimate [gCO2e].';
COMMENT ON COLUMN hourly.embodied_g_low IS 'Embodied carbon of the hardware, apart from carbon_g of the hour, low end estimate [gCO2e].';
COMMENT ON COLUMN hourly.embodied_g_high IS 'Embodied carbon of the hardware, apart from carbon_g of the hour, high end estimate [gCO2e].';
COMMENT ON COLUMN hourly.water_ml IS 'Water of the hour, central estimate [mL].';
COMMENT ON COLUMN hourly.water_ml_low IS 'Water of the hour, low end estimate [mL].';
COMMENT ON COLUMN hourly.water_ml_high IS 'Water of the hour, high end estimate [mL].';
COMMENT ON COLUMN hourly.cost_usd IS 'Cost of the hour as far as runtimes told it [USD]; NULL: nothing told.';

CREATE TABLE commands (
    command_id VARCHAR NOT NULL,
    run_id VARCHAR NOT NULL,
    action VARCHAR,
    reason VARCHAR,
    budget_g DOUBLE,
    spent_g DOUBLE,
    caused_by VARCHAR,
    issued_at TIMESTAMPTZ,
    outcome VARCHAR,
    stopped_at TIMESTAMPTZ,
    overshoot_g DOUBLE
);
COMMENT ON TABLE commands IS 'Commands to runtimes, one row per command_id, with their acknowledgement.';
COMMENT ON COLUMN commands.command_id IS 'Id of the command; the same however often it was sent.';
COMMENT ON COLUMN commands.run_id IS 'Run that it is for.';
COMMENT ON COLUMN commands.action IS 'abort, pause, warn; NULL: only the acknowledgement has come.';
COMMENT ON COLUMN commands.reason IS 'Why it was issued, such as carbon_budget_exceeded.';
COMMENT ON COLUMN commands.budget_g IS 'Budget of the run when it was issued [gCO2e].';
COMMENT ON COLUMN commands.spent_g IS 'Spent by the run when it was issued [gCO2e].';
COMMENT ON COLUMN commands.caused_by IS 'event_id of the call that crossed the line; NULL: an operator asked.';
COMMENT ON COLUMN commands.issued_at IS 'When it was issued (UTC).';
COMMENT ON COLUMN commands.outcome IS 'What the runtime did: stopped, already_finished, refused; NULL: not acknowledged.';
COMMENT ON COLUMN commands.stopped_at IS 'When the runtime stopped (UTC).';
COMMENT ON COLUMN commands.overshoot_g IS 'Spent beyond the budget until the run stopped [gCO2e].';

CREATE TABLE dead_letters (
    step VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    topic VARCHAR NOT NULL,
    source_id INTEGER NOT NULL,
    source_partition INTEGER NOT NULL,
    source_offset BIGINT NOT NULL,
    key BLOB,
    value BLOB,
    refused_at TIMESTAMPTZ NOT NULL,
    ingested_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE dead_letters IS 'Records that were refused, with their bytes unchanged.';
COMMENT ON COLUMN dead_letters.step IS 'Where it was refused: size, decode, validate, key by the worker; sink by the sink.';
COMMENT ON COLUMN dead_letters.reason IS 'Why it was refused.';
COMMENT ON COLUMN dead_letters.topic IS 'Topic that the refused record is on.';
COMMENT ON COLUMN dead_letters.source_id IS 'The same topic as a source: see sources.';
COMMENT ON COLUMN dead_letters.source_partition IS 'Partition of the refused record.';
COMMENT ON COLUMN dead_letters.source_offset IS 'Offset of the refused record.';
COMMENT ON COLUMN dead_letters.key IS 'Key of the record; NULL: none.';
COMMENT ON COLUMN dead_letters.value IS 'Value of the record; NULL: none (a tombstone).';
COMMENT ON COLUMN dead_letters.refused_at IS 'When it was refused (UTC).';
COMMENT ON COLUMN dead_letters.ingested_at IS 'When the sink took it in (UTC).';
