-- How late a run stopped and whether it had to be escalated; what the views need in `hourly`; the
-- views themselves. They read aggregates, never the ledger, so their cost does not grow with it.

ALTER TABLE runs ADD COLUMN overshoot_ms DOUBLE;
ALTER TABLE runs ADD COLUMN escalated_at TIMESTAMPTZ;
ALTER TABLE commands ADD COLUMN overshoot_ms DOUBLE;
COMMENT ON COLUMN runs.overshoot_ms IS 'From the command, or the breach that the runtime saw, until it stopped [ms]; NULL: not told.';
COMMENT ON COLUMN runs.escalated_at IS 'When operators were told that the runtime had not acknowledged its abort (UTC); NULL: never.';
COMMENT ON COLUMN commands.overshoot_ms IS 'From the command, or the breach that the runtime saw, until it stopped [ms]; NULL: not told.';
COMMENT ON COLUMN commands.action IS 'abort, pause, warn; escalate: told to operators, not to the runtime; NULL: only the acknowledgement has come.';

DROP TABLE hourly;
CREATE TABLE hourly (
    hour TIMESTAMPTZ NOT NULL,
    tenant VARCHAR,
    project VARCHAR,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    region VARCHAR NOT NULL,
    usage_quality VARCHAR NOT NULL,
    codes VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    factors VARCHAR NOT NULL,
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
COMMENT ON TABLE hourly IS 'Totals per hour, account, and how they were estimated: small, and kept when old events are removed.';
COMMENT ON COLUMN hourly.hour IS 'Begin of the hour of event_time (UTC).';
COMMENT ON COLUMN hourly.tenant IS 'Tenant.';
COMMENT ON COLUMN hourly.project IS 'Project.';
COMMENT ON COLUMN hourly.provider IS 'Provider.';
COMMENT ON COLUMN hourly.model IS 'Model.';
COMMENT ON COLUMN hourly.region IS 'Region, as told by the runtime.';
COMMENT ON COLUMN hourly.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN hourly.codes IS 'Codes that say what was assumed, as in events.quality, with commas between them.';
COMMENT ON COLUMN hourly.method IS 'Version of the estimation method.';
COMMENT ON COLUMN hourly.factors IS 'Version of the factor set.';
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

INSERT INTO hourly BY NAME
SELECT date_trunc('hour', event_time) AS hour, tenant, project, provider, model, region, usage_quality,
    array_to_string(quality, ',') AS codes, method, factors,
    count(*) AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
    sum(cache_write_tokens)::BIGINT AS cache_write_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(energy_wh) AS energy_wh,
    sum(energy_wh_low) AS energy_wh_low,
    sum(energy_wh_high) AS energy_wh_high,
    sum(carbon_g) AS carbon_g,
    sum(carbon_g_low) AS carbon_g_low,
    sum(carbon_g_high) AS carbon_g_high,
    sum(embodied_g) AS embodied_g,
    sum(embodied_g_low) AS embodied_g_low,
    sum(embodied_g_high) AS embodied_g_high,
    sum(water_ml) AS water_ml,
    sum(water_ml_low) AS water_ml_low,
    sum(water_ml_high) AS water_ml_high,
    sum(cost_usd) AS cost_usd
FROM events GROUP BY ALL ORDER BY hour;

CREATE TABLE daily (
    day DATE NOT NULL,
    tenant VARCHAR,
    project VARCHAR,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    region VARCHAR NOT NULL,
    usage_quality VARCHAR NOT NULL,
    codes VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    factors VARCHAR NOT NULL,
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
COMMENT ON TABLE daily IS 'Totals per day, account, and how they were estimated: small, and kept when old events are removed.';
COMMENT ON COLUMN daily.day IS 'Day of event_time (UTC).';
COMMENT ON COLUMN daily.tenant IS 'Tenant.';
COMMENT ON COLUMN daily.project IS 'Project.';
COMMENT ON COLUMN daily.provider IS 'Provider.';
COMMENT ON COLUMN daily.model IS 'Model.';
COMMENT ON COLUMN daily.region IS 'Region, as told by the runtime.';
COMMENT ON COLUMN daily.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN daily.codes IS 'Codes that say what was assumed, as in events.quality, with commas between them.';
COMMENT ON COLUMN daily.method IS 'Version of the estimation method.';
COMMENT ON COLUMN daily.factors IS 'Version of the factor set.';
COMMENT ON COLUMN daily.calls IS 'Model calls of the day [count].';
COMMENT ON COLUMN daily.input_tokens IS 'Fresh input tokens of the day: computed, not served from a cache, not stored in one [count].';
COMMENT ON COLUMN daily.cache_read_tokens IS 'Input tokens of the day that were served from a cache [count].';
COMMENT ON COLUMN daily.cache_write_tokens IS 'Input tokens of the day that were computed and stored in a cache [count].';
COMMENT ON COLUMN daily.output_tokens IS 'Output tokens of the day, reasoning included [count].';
COMMENT ON COLUMN daily.reasoning_tokens IS 'Reasoning tokens of the day, part of output_tokens [count].';
COMMENT ON COLUMN daily.energy_wh IS 'Energy of the data centre of the day, central estimate [Wh].';
COMMENT ON COLUMN daily.energy_wh_low IS 'Energy of the data centre of the day, low end estimate [Wh].';
COMMENT ON COLUMN daily.energy_wh_high IS 'Energy of the data centre of the day, high end estimate [Wh].';
COMMENT ON COLUMN daily.carbon_g IS 'Operational carbon, location-based of the day, central estimate [gCO2e].';
COMMENT ON COLUMN daily.carbon_g_low IS 'Operational carbon, location-based of the day, low end estimate [gCO2e].';
COMMENT ON COLUMN daily.carbon_g_high IS 'Operational carbon, location-based of the day, high end estimate [gCO2e].';
COMMENT ON COLUMN daily.embodied_g IS 'Embodied carbon of the hardware, apart from carbon_g of the day, central estimate [gCO2e].';
COMMENT ON COLUMN daily.embodied_g_low IS 'Embodied carbon of the hardware, apart from carbon_g of the day, low end estimate [gCO2e].';
COMMENT ON COLUMN daily.embodied_g_high IS 'Embodied carbon of the hardware, apart from carbon_g of the day, high end estimate [gCO2e].';
COMMENT ON COLUMN daily.water_ml IS 'Water of the day, central estimate [mL].';
COMMENT ON COLUMN daily.water_ml_low IS 'Water of the day, low end estimate [mL].';
COMMENT ON COLUMN daily.water_ml_high IS 'Water of the day, high end estimate [mL].';
COMMENT ON COLUMN daily.cost_usd IS 'Cost of the day as far as runtimes told it [USD]; NULL: nothing told.';

INSERT INTO daily BY NAME
SELECT (hour AT TIME ZONE 'UTC')::DATE AS day, * EXCLUDE hour REPLACE (sum(calls)::BIGINT AS calls, sum(input_tokens)::BIGINT AS input_tokens, sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_tokens)::BIGINT AS cache_write_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens, sum(energy_wh) AS energy_wh, sum(energy_wh_low) AS energy_wh_low, sum(energy_wh_high) AS energy_wh_high, sum(carbon_g) AS carbon_g, sum(carbon_g_low) AS carbon_g_low, sum(carbon_g_high) AS carbon_g_high, sum(embodied_g) AS embodied_g, sum(embodied_g_low) AS embodied_g_low, sum(embodied_g_high) AS embodied_g_high, sum(water_ml) AS water_ml, sum(water_ml_low) AS water_ml_low, sum(water_ml_high) AS water_ml_high, sum(cost_usd) AS cost_usd)
FROM hourly GROUP BY ALL ORDER BY day;

CREATE MACRO quality_tier(codes) AS CASE
    WHEN regexp_matches(codes, '(^|,)(model_unknown|model_class|region_world|intensity_world)(,|$)') THEN 5
    WHEN regexp_matches(codes, '(^|,)parameters_undisclosed(,|$)') THEN 4
    WHEN regexp_matches(codes, '(^|,)(region_|intensity_|hardware_assumed|hardware_unknown|pue_world)') THEN 3
    ELSE 2 END;
COMMENT ON MACRO quality_tier IS 'Tier of data quality from codes: 2 open weights at a known place, 3 the same with place or hardware assumed, 4 a model whose vendor publishes no size, 5 unknown model or place. Tier 1, energy measured by the provider, does not occur yet.';

CREATE VIEW run_summary AS
SELECT
    run_id,
    task,
    tenant,
    project,
    status,
    reason,
    coalesce(started_at, first_event_time) AS started_at,
    coalesce(finished_at, stopped_at) AS ended_at,
    last_event_time,
    calls,
    input_tokens,
    cache_read_tokens,
    cache_write_tokens,
    output_tokens,
    energy_wh,
    energy_wh_low,
    energy_wh_high,
    carbon_g,
    carbon_g_low,
    carbon_g_high,
    embodied_g,
    embodied_g_low,
    embodied_g_high,
    water_ml,
    water_ml_low,
    water_ml_high,
    cost_usd,
    carbon_budget_g,
    CASE bound WHEN 'low' THEN carbon_g_low WHEN 'high' THEN carbon_g_high ELSE carbon_g END / nullif(carbon_budget_g, 0) AS budget_used,
    aborted_at,
    ack_outcome,
    overshoot_g,
    overshoot_ms,
    escalated_at
FROM runs;
COMMENT ON VIEW run_summary IS 'One row per run: who, what, how it ended, and its footprint.';
COMMENT ON COLUMN run_summary.run_id IS 'Id of the run.';
COMMENT ON COLUMN run_summary.task IS 'What the run is about, as told by the runtime.';
COMMENT ON COLUMN run_summary.tenant IS 'Tenant.';
COMMENT ON COLUMN run_summary.project IS 'Project.';
COMMENT ON COLUMN run_summary.status IS 'running, completed, aborted, failed.';
COMMENT ON COLUMN run_summary.reason IS 'Why it ended.';
COMMENT ON COLUMN run_summary.started_at IS 'Begin: time of run.started, else of the first call (UTC).';
COMMENT ON COLUMN run_summary.ended_at IS 'End: time of run.finished, else when the runtime said that it stopped (UTC); NULL: it runs.';
COMMENT ON COLUMN run_summary.last_event_time IS 'Time of the latest call (UTC).';
COMMENT ON COLUMN run_summary.calls IS 'Model calls of the run [count].';
COMMENT ON COLUMN run_summary.input_tokens IS 'Fresh input tokens [count].';
COMMENT ON COLUMN run_summary.cache_read_tokens IS 'Input tokens served from a cache [count].';
COMMENT ON COLUMN run_summary.cache_write_tokens IS 'Input tokens stored in a cache [count].';
COMMENT ON COLUMN run_summary.output_tokens IS 'Output tokens, reasoning included [count].';
COMMENT ON COLUMN run_summary.energy_wh IS 'Energy of the data centre, central estimate [Wh].';
COMMENT ON COLUMN run_summary.energy_wh_low IS 'Energy of the data centre, low end [Wh].';
COMMENT ON COLUMN run_summary.energy_wh_high IS 'Energy of the data centre, high end [Wh].';
COMMENT ON COLUMN run_summary.carbon_g IS 'Operational carbon, location-based, central estimate [gCO2e].';
COMMENT ON COLUMN run_summary.carbon_g_low IS 'Operational carbon, location-based, low end [gCO2e].';
COMMENT ON COLUMN run_summary.carbon_g_high IS 'Operational carbon, location-based, high end [gCO2e].';
COMMENT ON COLUMN run_summary.embodied_g IS 'Embodied carbon of the hardware, central estimate [gCO2e].';
COMMENT ON COLUMN run_summary.embodied_g_low IS 'Embodied carbon of the hardware, low end [gCO2e].';
COMMENT ON COLUMN run_summary.embodied_g_high IS 'Embodied carbon of the hardware, high end [gCO2e].';
COMMENT ON COLUMN run_summary.water_ml IS 'Water, central estimate [mL].';
COMMENT ON COLUMN run_summary.water_ml_low IS 'Water, low end [mL].';
COMMENT ON COLUMN run_summary.water_ml_high IS 'Water, high end [mL].';
COMMENT ON COLUMN run_summary.cost_usd IS 'Cost as far as runtimes told it [USD]; NULL: nothing told.';
COMMENT ON COLUMN run_summary.carbon_budget_g IS 'Budget [gCO2e]; NULL: none.';
COMMENT ON COLUMN run_summary.budget_used IS 'Share of the budget that is spent, at the end of the range that the policy names; above 1 is a breach.';
COMMENT ON COLUMN run_summary.aborted_at IS 'When the abort command was issued (UTC); NULL: none.';
COMMENT ON COLUMN run_summary.ack_outcome IS 'What the runtime did with it: stopped, already_finished, refused; NULL: not acknowledged.';
COMMENT ON COLUMN run_summary.overshoot_g IS 'Spent beyond the budget until the run stopped [gCO2e].';
COMMENT ON COLUMN run_summary.overshoot_ms IS 'From the command or the breach until the run stopped [ms].';
COMMENT ON COLUMN run_summary.escalated_at IS 'When operators were told that the abort was not acknowledged (UTC); NULL: never.';

CREATE VIEW agent_summary AS
SELECT
    run_id,
    agent_id,
    first_event_time,
    last_event_time,
    calls,
    input_tokens,
    cache_read_tokens,
    cache_write_tokens,
    output_tokens,
    energy_wh,
    energy_wh_low,
    energy_wh_high,
    carbon_g,
    carbon_g_low,
    carbon_g_high,
    embodied_g,
    embodied_g_low,
    embodied_g_high,
    water_ml,
    water_ml_low,
    water_ml_high,
    cost_usd,
    carbon_g / calls AS carbon_g_per_call
FROM agents;
COMMENT ON VIEW agent_summary IS 'One row per run and agent: its calls and their footprint.';
COMMENT ON COLUMN agent_summary.run_id IS 'Run.';
COMMENT ON COLUMN agent_summary.agent_id IS 'Agent within the run.';
COMMENT ON COLUMN agent_summary.first_event_time IS 'Time of the earliest call (UTC).';
COMMENT ON COLUMN agent_summary.last_event_time IS 'Time of the latest call (UTC).';
COMMENT ON COLUMN agent_summary.calls IS 'Model calls of the agent [count].';
COMMENT ON COLUMN agent_summary.input_tokens IS 'Fresh input tokens [count].';
COMMENT ON COLUMN agent_summary.cache_read_tokens IS 'Input tokens served from a cache [count].';
COMMENT ON COLUMN agent_summary.cache_write_tokens IS 'Input tokens stored in a cache [count].';
COMMENT ON COLUMN agent_summary.output_tokens IS 'Output tokens, reasoning included [count].';
COMMENT ON COLUMN agent_summary.energy_wh IS 'Energy of the data centre, central estimate [Wh].';
COMMENT ON COLUMN agent_summary.energy_wh_low IS 'Energy of the data centre, low end [Wh].';
COMMENT ON COLUMN agent_summary.energy_wh_high IS 'Energy of the data centre, high end [Wh].';
COMMENT ON COLUMN agent_summary.carbon_g IS 'Operational carbon, location-based, central estimate [gCO2e].';
COMMENT ON COLUMN agent_summary.carbon_g_low IS 'Operational carbon, location-based, low end [gCO2e].';
COMMENT ON COLUMN agent_summary.carbon_g_high IS 'Operational carbon, location-based, high end [gCO2e].';
COMMENT ON COLUMN agent_summary.embodied_g IS 'Embodied carbon of the hardware, central estimate [gCO2e].';
COMMENT ON COLUMN agent_summary.embodied_g_low IS 'Embodied carbon of the hardware, low end [gCO2e].';
COMMENT ON COLUMN agent_summary.embodied_g_high IS 'Embodied carbon of the hardware, high end [gCO2e].';
COMMENT ON COLUMN agent_summary.water_ml IS 'Water, central estimate [mL].';
COMMENT ON COLUMN agent_summary.water_ml_low IS 'Water, low end [mL].';
COMMENT ON COLUMN agent_summary.water_ml_high IS 'Water, high end [mL].';
COMMENT ON COLUMN agent_summary.cost_usd IS 'Cost as far as runtimes told it [USD]; NULL: nothing told.';
COMMENT ON COLUMN agent_summary.carbon_g_per_call IS 'Operational carbon of a call, mean of the central estimates [gCO2e].';

CREATE VIEW daily_footprint AS
SELECT
    day,
    tenant,
    project,
    sum(calls)::BIGINT AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cached_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(energy_wh) / 1e3 AS energy_kwh,
    sum(energy_wh_low) / 1e3 AS energy_kwh_low,
    sum(energy_wh_high) / 1e3 AS energy_kwh_high,
    sum(carbon_g) / 1e3 AS carbon_kg,
    sum(carbon_g_low) / 1e3 AS carbon_kg_low,
    sum(carbon_g_high) / 1e3 AS carbon_kg_high,
    sum(embodied_g) / 1e3 AS embodied_kg,
    sum(embodied_g_low) / 1e3 AS embodied_kg_low,
    sum(embodied_g_high) / 1e3 AS embodied_kg_high,
    sum(water_ml) / 1e3 AS water_l,
    sum(water_ml_low) / 1e3 AS water_l_low,
    sum(water_ml_high) / 1e3 AS water_l_high,
    sum(carbon_g) / nullif(sum(energy_wh), 0) * 1000 AS intensity_g_per_kwh,
    sum(cost_usd) AS cost_usd
FROM daily GROUP BY ALL;
COMMENT ON VIEW daily_footprint IS 'One row per day (UTC), tenant and project. Adds up to the ledger.';
COMMENT ON COLUMN daily_footprint.day IS 'Day (UTC).';
COMMENT ON COLUMN daily_footprint.tenant IS 'Tenant; NULL: none told.';
COMMENT ON COLUMN daily_footprint.project IS 'Project; NULL: none told.';
COMMENT ON COLUMN daily_footprint.calls IS 'Model calls [count].';
COMMENT ON COLUMN daily_footprint.input_tokens IS 'Fresh input tokens [count].';
COMMENT ON COLUMN daily_footprint.cached_tokens IS 'Input tokens served from a cache [count].';
COMMENT ON COLUMN daily_footprint.output_tokens IS 'Output tokens, reasoning included [count].';
COMMENT ON COLUMN daily_footprint.reasoning_tokens IS 'Reasoning tokens, part of output_tokens [count].';
COMMENT ON COLUMN daily_footprint.energy_kwh IS 'Energy of the data centre, central estimate [kWh].';
COMMENT ON COLUMN daily_footprint.energy_kwh_low IS 'Energy of the data centre, low end [kWh].';
COMMENT ON COLUMN daily_footprint.energy_kwh_high IS 'Energy of the data centre, high end [kWh].';
COMMENT ON COLUMN daily_footprint.carbon_kg IS 'Operational carbon, location-based, central estimate [kgCO2e].';
COMMENT ON COLUMN daily_footprint.carbon_kg_low IS 'Operational carbon, location-based, low end [kgCO2e].';
COMMENT ON COLUMN daily_footprint.carbon_kg_high IS 'Operational carbon, location-based, high end [kgCO2e].';
COMMENT ON COLUMN daily_footprint.embodied_kg IS 'Embodied carbon of the hardware, central estimate [kgCO2e].';
COMMENT ON COLUMN daily_footprint.embodied_kg_low IS 'Embodied carbon of the hardware, low end [kgCO2e].';
COMMENT ON COLUMN daily_footprint.embodied_kg_high IS 'Embodied carbon of the hardware, high end [kgCO2e].';
COMMENT ON COLUMN daily_footprint.water_l IS 'Water, central estimate [L].';
COMMENT ON COLUMN daily_footprint.water_l_low IS 'Water, low end [L].';
COMMENT ON COLUMN daily_footprint.water_l_high IS 'Water, high end [L].';
COMMENT ON COLUMN daily_footprint.intensity_g_per_kwh IS 'Carbon intensity of the electricity, weighted by energy [gCO2e/kWh]; NULL: no energy.';
COMMENT ON COLUMN daily_footprint.cost_usd IS 'Cost as far as runtimes told it [USD]; NULL: nothing told.';

CREATE VIEW model_comparison AS
SELECT
    provider,
    model,
    sum(calls)::BIGINT AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cached_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(energy_wh) / sum(calls) AS energy_wh_per_call,
    sum(energy_wh_low) / sum(calls) AS energy_wh_per_call_low,
    sum(energy_wh_high) / sum(calls) AS energy_wh_per_call_high,
    sum(carbon_g) / sum(calls) AS carbon_g_per_call,
    sum(carbon_g_low) / sum(calls) AS carbon_g_per_call_low,
    sum(carbon_g_high) / sum(calls) AS carbon_g_per_call_high,
    sum(water_ml) / sum(calls) AS water_ml_per_call,
    sum(water_ml_low) / sum(calls) AS water_ml_per_call_low,
    sum(water_ml_high) / sum(calls) AS water_ml_per_call_high,
    sum(energy_wh) / nullif(sum(output_tokens), 0) * 1000 AS energy_wh_per_1k_output,
    sum(carbon_g) / nullif(sum(output_tokens), 0) * 1000 AS carbon_g_per_1k_output,
    sum(carbon_g) AS carbon_g,
    sum(carbon_g) / nullif(sum(energy_wh), 0) * 1000 AS intensity_g_per_kwh,
    sum(cost_usd) AS cost_usd
FROM daily GROUP BY ALL;
COMMENT ON VIEW model_comparison IS 'One row per provider and model, over all time: what a call and a thousand output tokens cost.';
COMMENT ON COLUMN model_comparison.provider IS 'Provider.';
COMMENT ON COLUMN model_comparison.model IS 'Model.';
COMMENT ON COLUMN model_comparison.calls IS 'Model calls [count].';
COMMENT ON COLUMN model_comparison.input_tokens IS 'Fresh input tokens [count].';
COMMENT ON COLUMN model_comparison.cached_tokens IS 'Input tokens served from a cache [count].';
COMMENT ON COLUMN model_comparison.output_tokens IS 'Output tokens, reasoning included [count].';
COMMENT ON COLUMN model_comparison.reasoning_tokens IS 'Reasoning tokens, part of output_tokens [count].';
COMMENT ON COLUMN model_comparison.energy_wh_per_call IS 'Energy of a call, mean, central estimate [Wh].';
COMMENT ON COLUMN model_comparison.energy_wh_per_call_low IS 'Energy of a call, mean, low end [Wh].';
COMMENT ON COLUMN model_comparison.energy_wh_per_call_high IS 'Energy of a call, mean, high end [Wh].';
COMMENT ON COLUMN model_comparison.carbon_g_per_call IS 'Operational carbon of a call, mean, central estimate [gCO2e].';
COMMENT ON COLUMN model_comparison.carbon_g_per_call_low IS 'Operational carbon of a call, mean, low end [gCO2e].';
COMMENT ON COLUMN model_comparison.carbon_g_per_call_high IS 'Operational carbon of a call, mean, high end [gCO2e].';
COMMENT ON COLUMN model_comparison.water_ml_per_call IS 'Water of a call, mean, central estimate [mL].';
COMMENT ON COLUMN model_comparison.water_ml_per_call_low IS 'Water of a call, mean, low end [mL].';
COMMENT ON COLUMN model_comparison.water_ml_per_call_high IS 'Water of a call, mean, high end [mL].';
COMMENT ON COLUMN model_comparison.energy_wh_per_1k_output IS 'Energy of a thousand output tokens and the input that they took [Wh]; NULL: no output.';
COMMENT ON COLUMN model_comparison.carbon_g_per_1k_output IS 'Operational carbon of a thousand output tokens and the input that they took [gCO2e]; NULL: no output.';
COMMENT ON COLUMN model_comparison.carbon_g IS 'Operational carbon, location-based, all calls, central estimate [gCO2e].';
COMMENT ON COLUMN model_comparison.intensity_g_per_kwh IS 'Carbon intensity of the electricity, weighted by energy [gCO2e/kWh]; NULL: no energy.';
COMMENT ON COLUMN model_comparison.cost_usd IS 'Cost as far as runtimes told it [USD]; NULL: nothing told.';

CREATE VIEW scope3_category1 AS
SELECT
    period_start,
    (period_start + INTERVAL 1 MONTH - INTERVAL 1 DAY)::DATE AS period_end,
    'Scope 3' AS scope,
    '1 Purchased goods and services' AS category,
    'average-data' AS calculation_method,
    'location-based, cradle-to-gate' AS basis,
    tenant,
    project,
    provider,
    model,
    region,
    method,
    factors,
    quality_tier(codes) AS quality_tier,
    sum(calls)::BIGINT AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(cache_read_tokens)::BIGINT AS cached_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(reasoning_tokens)::BIGINT AS reasoning_tokens,
    sum(energy_wh) / 1e3 AS energy_kwh,
    sum(energy_wh_low) / 1e3 AS energy_kwh_low,
    sum(energy_wh_high) / 1e3 AS energy_kwh_high,
    sum(carbon_g) / nullif(sum(energy_wh), 0) * 1000 AS intensity_g_per_kwh,
    sum(carbon_g) / 1e6 AS operational_t,
    sum(carbon_g_low) / 1e6 AS operational_t_low,
    sum(carbon_g_high) / 1e6 AS operational_t_high,
    sum(embodied_g) / 1e6 AS embodied_t,
    sum(embodied_g_low) / 1e6 AS embodied_t_low,
    sum(embodied_g_high) / 1e6 AS embodied_t_high,
    (sum(carbon_g) + sum(embodied_g)) / 1e6 AS total_t,
    (sum(carbon_g_low) + sum(embodied_g_low)) / 1e6 AS total_t_low,
    (sum(carbon_g_high) + sum(embodied_g_high)) / 1e6 AS total_t_high,
    sum(water_ml) / 1e3 AS water_l,
    sum(water_ml_low) / 1e3 AS water_l_low,
    sum(water_ml_high) / 1e3 AS water_l_high,
    0.0 AS primary_data_share
FROM (
    SELECT date_trunc('month', day)::DATE AS period_start, * EXCLUDE day REPLACE (sum(calls)::BIGINT AS calls, sum(input_tokens)::BIGINT AS input_tokens, sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_tokens)::BIGINT AS cache_write_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens, sum(energy_wh) AS energy_wh, sum(energy_wh_low) AS energy_wh_low, sum(energy_wh_high) AS energy_wh_high, sum(carbon_g) AS carbon_g, sum(carbon_g_low) AS carbon_g_low, sum(carbon_g_high) AS carbon_g_high, sum(embodied_g) AS embodied_g, sum(embodied_g_low) AS embodied_g_low, sum(embodied_g_high) AS embodied_g_high, sum(water_ml) AS water_ml, sum(water_ml_low) AS water_ml_low, sum(water_ml_high) AS water_ml_high, sum(cost_usd) AS cost_usd)
    FROM daily GROUP BY ALL
) GROUP BY ALL;
COMMENT ON VIEW scope3_category1 IS 'GHG Protocol Scope 3, Category 1: purchased inference, one row per month, account, model, place, method and factor set.';
COMMENT ON COLUMN scope3_category1.period_start IS 'First day of the month (UTC).';
COMMENT ON COLUMN scope3_category1.period_end IS 'Last day of the month (UTC), inclusive.';
COMMENT ON COLUMN scope3_category1.scope IS 'Scope of the GHG Protocol.';
COMMENT ON COLUMN scope3_category1.category IS 'Category of the GHG Protocol.';
COMMENT ON COLUMN scope3_category1.calculation_method IS 'Method of the GHG Protocol: tokens are the activity data, factors are secondary data.';
COMMENT ON COLUMN scope3_category1.basis IS 'Basis of the electricity, and boundary.';
COMMENT ON COLUMN scope3_category1.tenant IS 'Tenant; NULL: none told.';
COMMENT ON COLUMN scope3_category1.project IS 'Project; NULL: none told.';
COMMENT ON COLUMN scope3_category1.provider IS 'Provider.';
COMMENT ON COLUMN scope3_category1.model IS 'Model.';
COMMENT ON COLUMN scope3_category1.region IS 'Region, as told by the runtime.';
COMMENT ON COLUMN scope3_category1.method IS 'Version of the estimation method.';
COMMENT ON COLUMN scope3_category1.factors IS 'Version of the factor set.';
COMMENT ON COLUMN scope3_category1.quality_tier IS 'Tier of data quality, 2 (best so far) to 5: see the macro quality_tier.';
COMMENT ON COLUMN scope3_category1.calls IS 'Model calls [count].';
COMMENT ON COLUMN scope3_category1.input_tokens IS 'Fresh input tokens [count].';
COMMENT ON COLUMN scope3_category1.cached_tokens IS 'Input tokens served from a cache [count].';
COMMENT ON COLUMN scope3_category1.output_tokens IS 'Output tokens, reasoning included [count].';
COMMENT ON COLUMN scope3_category1.reasoning_tokens IS 'Reasoning tokens, part of output_tokens [count].';
COMMENT ON COLUMN scope3_category1.energy_kwh IS 'Energy of the data centre, central estimate [kWh].';
COMMENT ON COLUMN scope3_category1.energy_kwh_low IS 'Energy of the data centre, low end [kWh].';
COMMENT ON COLUMN scope3_category1.energy_kwh_high IS 'Energy of the data centre, high end [kWh].';
COMMENT ON COLUMN scope3_category1.intensity_g_per_kwh IS 'Carbon intensity of the electricity, weighted by energy [gCO2e/kWh]; NULL: no energy.';
COMMENT ON COLUMN scope3_category1.operational_t IS 'Operational carbon, location-based, central estimate [tCO2e].';
COMMENT ON COLUMN scope3_category1.operational_t_low IS 'Operational carbon, location-based, low end [tCO2e].';
COMMENT ON COLUMN scope3_category1.operational_t_high IS 'Operational carbon, location-based, high end [tCO2e].';
COMMENT ON COLUMN scope3_category1.embodied_t IS 'Embodied carbon of the hardware, central estimate [tCO2e].';
COMMENT ON COLUMN scope3_category1.embodied_t_low IS 'Embodied carbon of the hardware, low end [tCO2e].';
COMMENT ON COLUMN scope3_category1.embodied_t_high IS 'Embodied carbon of the hardware, high end [tCO2e].';
COMMENT ON COLUMN scope3_category1.total_t IS 'Operational and embodied carbon together, central estimate [tCO2e].';
COMMENT ON COLUMN scope3_category1.total_t_low IS 'Operational and embodied carbon together, low end [tCO2e].';
COMMENT ON COLUMN scope3_category1.total_t_high IS 'Operational and embodied carbon together, high end [tCO2e].';
COMMENT ON COLUMN scope3_category1.water_l IS 'Water, central estimate [L].';
COMMENT ON COLUMN scope3_category1.water_l_low IS 'Water, low end [L].';
COMMENT ON COLUMN scope3_category1.water_l_high IS 'Water, high end [L].';
COMMENT ON COLUMN scope3_category1.primary_data_share IS 'Share of energy that a provider measured; the rest is estimated.';

CREATE VIEW budget_breaches AS
SELECT
    c.command_id AS command_id,
    c.run_id AS run_id,
    r.tenant AS tenant,
    r.project AS project,
    r.task AS task,
    c.action AS action,
    c.reason AS reason,
    c.budget_g AS budget_g,
    c.spent_g AS spent_g,
    greatest(c.spent_g - c.budget_g, 0) AS over_g,
    c.caused_by AS caused_by,
    c.issued_at AS issued_at,
    c.outcome AS outcome,
    c.stopped_at AS stopped_at,
    c.overshoot_g AS overshoot_g,
    c.overshoot_ms AS overshoot_ms,
    r.escalated_at AS escalated_at,
    r.status AS run_status
FROM commands AS c LEFT JOIN runs AS r ON r.run_id = c.run_id
WHERE c.action IS DISTINCT FROM 'escalate';
COMMENT ON VIEW budget_breaches IS 'One row per command to a runtime: who crossed which line, what was asked and what was done.';
COMMENT ON COLUMN budget_breaches.command_id IS 'Id of the command.';
COMMENT ON COLUMN budget_breaches.run_id IS 'Run.';
COMMENT ON COLUMN budget_breaches.tenant IS 'Tenant.';
COMMENT ON COLUMN budget_breaches.project IS 'Project.';
COMMENT ON COLUMN budget_breaches.task IS 'What the run is about.';
COMMENT ON COLUMN budget_breaches.action IS 'What was asked: abort, pause, warn.';
COMMENT ON COLUMN budget_breaches.reason IS 'Why, such as carbon_budget_exceeded.';
COMMENT ON COLUMN budget_breaches.budget_g IS 'Budget of the run when it was issued [gCO2e].';
COMMENT ON COLUMN budget_breaches.spent_g IS 'Spent by the run when it was issued [gCO2e].';
COMMENT ON COLUMN budget_breaches.over_g IS 'Spent beyond the budget when it was issued [gCO2e].';
COMMENT ON COLUMN budget_breaches.caused_by IS 'event_id of the call that crossed the line; NULL: an operator asked.';
COMMENT ON COLUMN budget_breaches.issued_at IS 'When it was issued (UTC).';
COMMENT ON COLUMN budget_breaches.outcome IS 'What the runtime did: stopped, already_finished, refused; NULL: not acknowledged.';
COMMENT ON COLUMN budget_breaches.stopped_at IS 'When the runtime stopped (UTC).';
COMMENT ON COLUMN budget_breaches.overshoot_g IS 'Spent beyond the budget until the run stopped [gCO2e].';
COMMENT ON COLUMN budget_breaches.overshoot_ms IS 'From the command or the breach until the run stopped [ms].';
COMMENT ON COLUMN budget_breaches.escalated_at IS 'When operators were told that the abort was not acknowledged (UTC); NULL: never.';
COMMENT ON COLUMN budget_breaches.run_status IS 'Status of the run now.';

CREATE VIEW data_quality AS
SELECT
    period_start,
    quality_tier,
    usage_quality,
    calls,
    calls / sum(calls) OVER (PARTITION BY period_start) AS share_of_calls,
    energy_kwh,
    energy_kwh_low,
    energy_kwh_high,
    carbon_kg,
    carbon_kg / nullif(sum(carbon_kg) OVER (PARTITION BY period_start), 0) AS share_of_carbon,
    high_to_low,
    unknown_model_calls,
    unknown_region_calls
FROM (
    SELECT
        period_start,
        quality_tier(codes) AS quality_tier,
        usage_quality,
        sum(calls)::BIGINT AS calls,
        sum(energy_wh) / 1e3 AS energy_kwh, sum(energy_wh_low) / 1e3 AS energy_kwh_low, sum(energy_wh_high) / 1e3 AS energy_kwh_high,
        sum(carbon_g) / 1e3 AS carbon_kg,
        sum(carbon_g_high) / nullif(sum(carbon_g_low), 0) AS high_to_low,
        coalesce(sum(calls) FILTER (regexp_matches(codes, '(^|,)model_unknown(,|$)')), 0)::BIGINT
            AS unknown_model_calls,
        coalesce(sum(calls) FILTER (regexp_matches(codes, '(^|,)region_world(,|$)')), 0)::BIGINT
            AS unknown_region_calls
    FROM (
        SELECT date_trunc('month', day)::DATE AS period_start, codes, usage_quality,
            sum(calls)::BIGINT AS calls, sum(input_tokens)::BIGINT AS input_tokens, sum(cache_read_tokens)::BIGINT AS cache_read_tokens, sum(cache_write_tokens)::BIGINT AS cache_write_tokens, sum(output_tokens)::BIGINT AS output_tokens, sum(reasoning_tokens)::BIGINT AS reasoning_tokens, sum(energy_wh) AS energy_wh, sum(energy_wh_low) AS energy_wh_low, sum(energy_wh_high) AS energy_wh_high, sum(carbon_g) AS carbon_g, sum(carbon_g_low) AS carbon_g_low, sum(carbon_g_high) AS carbon_g_high, sum(embodied_g) AS embodied_g, sum(embodied_g_low) AS embodied_g_low, sum(embodied_g_high) AS embodied_g_high, sum(water_ml) AS water_ml, sum(water_ml_low) AS water_ml_low, sum(water_ml_high) AS water_ml_high, sum(cost_usd) AS cost_usd
        FROM daily GROUP BY ALL
    ) GROUP BY ALL
);
COMMENT ON VIEW data_quality IS 'One row per month, tier of data quality and quality of the token counts: how much of the footprint rests on what.';
COMMENT ON COLUMN data_quality.period_start IS 'First day of the month (UTC).';
COMMENT ON COLUMN data_quality.quality_tier IS 'Tier of data quality, 2 (best so far) to 5: see the macro quality_tier.';
COMMENT ON COLUMN data_quality.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN data_quality.calls IS 'Model calls [count].';
COMMENT ON COLUMN data_quality.share_of_calls IS 'Share of the month''s calls.';
COMMENT ON COLUMN data_quality.energy_kwh IS 'Energy of the data centre, central estimate [kWh].';
COMMENT ON COLUMN data_quality.energy_kwh_low IS 'Energy of the data centre, low end [kWh].';
COMMENT ON COLUMN data_quality.energy_kwh_high IS 'Energy of the data centre, high end [kWh].';
COMMENT ON COLUMN data_quality.carbon_kg IS 'Operational carbon, location-based, central estimate [kgCO2e].';
COMMENT ON COLUMN data_quality.share_of_carbon IS 'Share of the month''s operational carbon; NULL: the month has none.';
COMMENT ON COLUMN data_quality.high_to_low IS 'High end of operational carbon over its low end; NULL: the low end is 0.';
COMMENT ON COLUMN data_quality.unknown_model_calls IS 'Calls of models that the catalogue does not have [count].';
COMMENT ON COLUMN data_quality.unknown_region_calls IS 'Calls whose place is unknown: world averages stand in [count].';

CREATE VIEW hourly_zone_energy AS
SELECT
    hour,
    provider,
    region,
    sum(calls)::BIGINT AS calls,
    sum(energy_wh) AS energy_wh,
    sum(energy_wh_low) AS energy_wh_low,
    sum(energy_wh_high) AS energy_wh_high,
    sum(carbon_g) AS carbon_g,
    sum(carbon_g_low) AS carbon_g_low,
    sum(carbon_g_high) AS carbon_g_high,
    sum(carbon_g) / nullif(sum(energy_wh), 0) * 1000 AS intensity_g_per_kwh
FROM hourly GROUP BY ALL;
COMMENT ON VIEW hourly_zone_energy IS 'One row per hour (UTC), provider and region: the energy that hourly matching and grid data are joined to.';
COMMENT ON COLUMN hourly_zone_energy.hour IS 'Begin of the hour (UTC).';
COMMENT ON COLUMN hourly_zone_energy.provider IS 'Provider.';
COMMENT ON COLUMN hourly_zone_energy.region IS 'Region or grid zone, as told by the runtime.';
COMMENT ON COLUMN hourly_zone_energy.calls IS 'Model calls [count].';
COMMENT ON COLUMN hourly_zone_energy.energy_wh IS 'Energy of the data centre, central estimate [Wh].';
COMMENT ON COLUMN hourly_zone_energy.energy_wh_low IS 'Energy of the data centre, low end [Wh].';
COMMENT ON COLUMN hourly_zone_energy.energy_wh_high IS 'Energy of the data centre, high end [Wh].';
COMMENT ON COLUMN hourly_zone_energy.carbon_g IS 'Operational carbon, location-based, central estimate [gCO2e].';
COMMENT ON COLUMN hourly_zone_energy.carbon_g_low IS 'Operational carbon, location-based, low end [gCO2e].';
COMMENT ON COLUMN hourly_zone_energy.carbon_g_high IS 'Operational carbon, location-based, high end [gCO2e].';
COMMENT ON COLUMN hourly_zone_energy.intensity_g_per_kwh IS 'Carbon intensity of the electricity, weighted by energy [gCO2e/kWh]; NULL: no energy.';
