-- Which factor sets were used, what was restated, and the grid's intensity by the hour. Nothing here
-- changes what `events` and its aggregates say: a restatement is rows of its own beside them.

CREATE TABLE factor_sets (
    factors VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    content JSON,
    marlin_version VARCHAR,
    recorded_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE factor_sets IS 'Factor sets that estimates here were made with, or that history was restated with.';
COMMENT ON COLUMN factor_sets.factors IS 'Version: date and hash of the content, as in events.factors.';
COMMENT ON COLUMN factor_sets.method IS 'Version of the estimation method that it was used with.';
COMMENT ON COLUMN factor_sets.content IS 'The set itself: an object of file names and their texts; NULL: another process used it and this one does not have it.';
COMMENT ON COLUMN factor_sets.marlin_version IS 'Version of Marlin that recorded it.';
COMMENT ON COLUMN factor_sets.recorded_at IS 'When it was recorded (UTC).';

CREATE TABLE restatements (
    restatement_id VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    method VARCHAR NOT NULL,
    factors VARCHAR NOT NULL,
    period_start TIMESTAMPTZ NOT NULL,
    period_end TIMESTAMPTZ NOT NULL,
    tenant VARCHAR,
    calls BIGINT NOT NULL,
    positions JSON,
    marlin_version VARCHAR NOT NULL,
    restated_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE restatements IS 'Decisions to restate: what was computed again, with what, and why. Never updated, never deleted.';
COMMENT ON COLUMN restatements.restatement_id IS 'Id of the restatement.';
COMMENT ON COLUMN restatements.kind IS 'factors: other factors or another method; grid: hourly grid data that came late or was revised.';
COMMENT ON COLUMN restatements.reason IS 'Why, in words.';
COMMENT ON COLUMN restatements.method IS 'Version of the estimation method that it was restated with.';
COMMENT ON COLUMN restatements.factors IS 'Version of the factor set that it was restated with.';
COMMENT ON COLUMN restatements.period_start IS 'Begin of what was restated, by event_time (UTC), inclusive.';
COMMENT ON COLUMN restatements.period_end IS 'End of it (UTC), exclusive.';
COMMENT ON COLUMN restatements.tenant IS 'Only this tenant; NULL: all.';
COMMENT ON COLUMN restatements.calls IS 'Model calls that were computed again [count].';
COMMENT ON COLUMN restatements.positions IS 'How far each partition of the events topics was in the ledger then: what came later is not in it.';
COMMENT ON COLUMN restatements.marlin_version IS 'Version of Marlin that did it.';
COMMENT ON COLUMN restatements.restated_at IS 'When it was done (UTC).';

CREATE TABLE adjustments (
    restatement_id VARCHAR NOT NULL,
    hour TIMESTAMPTZ NOT NULL,
    run_id VARCHAR NOT NULL,
    agent_id VARCHAR NOT NULL,
    tenant VARCHAR,
    project VARCHAR,
    provider VARCHAR NOT NULL,
    model VARCHAR NOT NULL,
    region VARCHAR NOT NULL,
    usage_quality VARCHAR NOT NULL,
    old_codes VARCHAR NOT NULL,
    old_method VARCHAR NOT NULL,
    old_factors VARCHAR NOT NULL,
    new_codes VARCHAR NOT NULL,
    new_method VARCHAR NOT NULL,
    new_factors VARCHAR NOT NULL,
    calls BIGINT NOT NULL,
    old_energy_wh DOUBLE NOT NULL,
    old_energy_wh_low DOUBLE NOT NULL,
    old_energy_wh_high DOUBLE NOT NULL,
    old_carbon_g DOUBLE NOT NULL,
    old_carbon_g_low DOUBLE NOT NULL,
    old_carbon_g_high DOUBLE NOT NULL,
    old_embodied_g DOUBLE NOT NULL,
    old_embodied_g_low DOUBLE NOT NULL,
    old_embodied_g_high DOUBLE NOT NULL,
    old_water_ml DOUBLE NOT NULL,
    old_water_ml_low DOUBLE NOT NULL,
    old_water_ml_high DOUBLE NOT NULL,
    new_energy_wh DOUBLE NOT NULL,
    new_energy_wh_low DOUBLE NOT NULL,
    new_energy_wh_high DOUBLE NOT NULL,
    new_carbon_g DOUBLE NOT NULL,
    new_carbon_g_low DOUBLE NOT NULL,
    new_carbon_g_high DOUBLE NOT NULL,
    new_embodied_g DOUBLE NOT NULL,
    new_embodied_g_low DOUBLE NOT NULL,
    new_embodied_g_high DOUBLE NOT NULL,
    new_water_ml DOUBLE NOT NULL,
    new_water_ml_low DOUBLE NOT NULL,
    new_water_ml_high DOUBLE NOT NULL
);
COMMENT ON TABLE adjustments IS 'What a restatement changes: one row per restatement, hour, run, agent and estimate. before: by the estimate and all earlier restatements. Never updated, never deleted.';
COMMENT ON COLUMN adjustments.restatement_id IS 'Restatement: see restatements.';
COMMENT ON COLUMN adjustments.hour IS 'Begin of the hour of event_time (UTC).';
COMMENT ON COLUMN adjustments.run_id IS 'Run.';
COMMENT ON COLUMN adjustments.agent_id IS 'Agent within the run.';
COMMENT ON COLUMN adjustments.tenant IS 'Tenant, as told by the calls.';
COMMENT ON COLUMN adjustments.project IS 'Project, as told by the calls.';
COMMENT ON COLUMN adjustments.provider IS 'Provider.';
COMMENT ON COLUMN adjustments.model IS 'Model.';
COMMENT ON COLUMN adjustments.region IS 'Region, as told by the runtime.';
COMMENT ON COLUMN adjustments.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN adjustments.old_codes IS 'Codes that said what was assumed, before, with commas between them.';
COMMENT ON COLUMN adjustments.old_method IS 'Version of the estimation method, before.';
COMMENT ON COLUMN adjustments.old_factors IS 'Version of the factor set, before.';
COMMENT ON COLUMN adjustments.new_codes IS 'Codes that say what was assumed, after, with commas between them.';
COMMENT ON COLUMN adjustments.new_method IS 'Version of the estimation method, after.';
COMMENT ON COLUMN adjustments.new_factors IS 'Version of the factor set, after.';
COMMENT ON COLUMN adjustments.calls IS 'Model calls [count].';
COMMENT ON COLUMN adjustments.old_energy_wh IS 'Energy of the data centre, before, central estimate [Wh].';
COMMENT ON COLUMN adjustments.old_energy_wh_low IS 'Energy of the data centre, before, low end [Wh].';
COMMENT ON COLUMN adjustments.old_energy_wh_high IS 'Energy of the data centre, before, high end [Wh].';
COMMENT ON COLUMN adjustments.old_carbon_g IS 'Operational carbon, location-based, before, central estimate [gCO2e].';
COMMENT ON COLUMN adjustments.old_carbon_g_low IS 'Operational carbon, location-based, before, low end [gCO2e].';
COMMENT ON COLUMN adjustments.old_carbon_g_high IS 'Operational carbon, location-based, before, high end [gCO2e].';
COMMENT ON COLUMN adjustments.old_embodied_g IS 'Embodied carbon of the hardware, before, central estimate [gCO2e].';
COMMENT ON COLUMN adjustments.old_embodied_g_low IS 'Embodied carbon of the hardware, before, low end [gCO2e].';
COMMENT ON COLUMN adjustments.old_embodied_g_high IS 'Embodied carbon of the hardware, before, high end [gCO2e].';
COMMENT ON COLUMN adjustments.old_water_ml IS 'Water, before, central estimate [mL].';
COMMENT ON COLUMN adjustments.old_water_ml_low IS 'Water, before, low end [mL].';
COMMENT ON COLUMN adjustments.old_water_ml_high IS 'Water, before, high end [mL].';
COMMENT ON COLUMN adjustments.new_energy_wh IS 'Energy of the data centre, after, central estimate [Wh].';
COMMENT ON COLUMN adjustments.new_energy_wh_low IS 'Energy of the data centre, after, low end [Wh].';
COMMENT ON COLUMN adjustments.new_energy_wh_high IS 'Energy of the data centre, after, high end [Wh].';
COMMENT ON COLUMN adjustments.new_carbon_g IS 'Operational carbon, location-based, after, central estimate [gCO2e].';
COMMENT ON COLUMN adjustments.new_carbon_g_low IS 'Operational carbon, location-based, after, low end [gCO2e].';
COMMENT ON COLUMN adjustments.new_carbon_g_high IS 'Operational carbon, location-based, after, high end [gCO2e].';
COMMENT ON COLUMN adjustments.new_embodied_g IS 'Embodied carbon of the hardware, after, central estimate [gCO2e].';
COMMENT ON COLUMN adjustments.new_embodied_g_low IS 'Embodied carbon of the hardware, after, low end [gCO2e].';
COMMENT ON COLUMN adjustments.new_embodied_g_high IS 'Embodied carbon of the hardware, after, high end [gCO2e].';
COMMENT ON COLUMN adjustments.new_water_ml IS 'Water, after, central estimate [mL].';
COMMENT ON COLUMN adjustments.new_water_ml_low IS 'Water, after, low end [mL].';
COMMENT ON COLUMN adjustments.new_water_ml_high IS 'Water, after, high end [mL].';

CREATE TABLE grid_intensity (
    zone VARCHAR NOT NULL,
    hour TIMESTAMPTZ NOT NULL,
    revision INTEGER NOT NULL,
    intensity_g_per_kwh DOUBLE NOT NULL,
    basis VARCHAR NOT NULL,
    estimate VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    fetched_at TIMESTAMPTZ NOT NULL,
    published_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE grid_intensity IS 'Carbon intensity of electricity by grid zone and hour, as it was told; a revision is a further row.';
COMMENT ON COLUMN grid_intensity.zone IS 'Electricity Maps zone.';
COMMENT ON COLUMN grid_intensity.hour IS 'Begin of the hour (UTC).';
COMMENT ON COLUMN grid_intensity.revision IS '0: as first told; counted up by each later value.';
COMMENT ON COLUMN grid_intensity.intensity_g_per_kwh IS 'Average intensity [gCO2e/kWh].';
COMMENT ON COLUMN grid_intensity.basis IS 'lifecycle or direct. Only lifecycle counts.';
COMMENT ON COLUMN grid_intensity.estimate IS 'measured, estimated or forecast, by its source.';
COMMENT ON COLUMN grid_intensity.source IS 'Who told it, such as electricitymaps-v3.';
COMMENT ON COLUMN grid_intensity.fetched_at IS 'When it was fetched (UTC).';
COMMENT ON COLUMN grid_intensity.published_at IS 'Time of its record on the grid topic (UTC).';

CREATE VIEW restatement_summary AS
SELECT
    r.restatement_id, r.restated_at, r.kind, r.reason, r.period_start, r.period_end, r.tenant, r.method, r.factors,
    r.calls,
    coalesce(sum(a.calls), 0)::BIGINT AS changed_calls,
    count(a.restatement_id) AS adjustments,
    coalesce(sum(a.old_energy_wh), 0) AS old_energy_wh,
    coalesce(sum(a.new_energy_wh), 0) AS new_energy_wh,
    coalesce(sum(a.old_energy_wh_low), 0) AS old_energy_wh_low,
    coalesce(sum(a.new_energy_wh_low), 0) AS new_energy_wh_low,
    coalesce(sum(a.old_energy_wh_high), 0) AS old_energy_wh_high,
    coalesce(sum(a.new_energy_wh_high), 0) AS new_energy_wh_high,
    coalesce(sum(CAST(a.new_energy_wh AS DECIMAL(38, 12)) - CAST(a.old_energy_wh AS DECIMAL(38, 12))), 0)::DOUBLE AS difference_energy_wh,
    coalesce(sum(a.old_carbon_g), 0) AS old_carbon_g,
    coalesce(sum(a.new_carbon_g), 0) AS new_carbon_g,
    coalesce(sum(a.old_carbon_g_low), 0) AS old_carbon_g_low,
    coalesce(sum(a.new_carbon_g_low), 0) AS new_carbon_g_low,
    coalesce(sum(a.old_carbon_g_high), 0) AS old_carbon_g_high,
    coalesce(sum(a.new_carbon_g_high), 0) AS new_carbon_g_high,
    coalesce(sum(CAST(a.new_carbon_g AS DECIMAL(38, 12)) - CAST(a.old_carbon_g AS DECIMAL(38, 12))), 0)::DOUBLE AS difference_carbon_g,
    coalesce(sum(a.old_embodied_g), 0) AS old_embodied_g,
    coalesce(sum(a.new_embodied_g), 0) AS new_embodied_g,
    coalesce(sum(a.old_embodied_g_low), 0) AS old_embodied_g_low,
    coalesce(sum(a.new_embodied_g_low), 0) AS new_embodied_g_low,
    coalesce(sum(a.old_embodied_g_high), 0) AS old_embodied_g_high,
    coalesce(sum(a.new_embodied_g_high), 0) AS new_embodied_g_high,
    coalesce(sum(CAST(a.new_embodied_g AS DECIMAL(38, 12)) - CAST(a.old_embodied_g AS DECIMAL(38, 12))), 0)::DOUBLE AS difference_embodied_g,
    coalesce(sum(a.old_water_ml), 0) AS old_water_ml,
    coalesce(sum(a.new_water_ml), 0) AS new_water_ml,
    coalesce(sum(a.old_water_ml_low), 0) AS old_water_ml_low,
    coalesce(sum(a.new_water_ml_low), 0) AS new_water_ml_low,
    coalesce(sum(a.old_water_ml_high), 0) AS old_water_ml_high,
    coalesce(sum(a.new_water_ml_high), 0) AS new_water_ml_high,
    coalesce(sum(CAST(a.new_water_ml AS DECIMAL(38, 12)) - CAST(a.old_water_ml AS DECIMAL(38, 12))), 0)::DOUBLE AS difference_water_ml
FROM restatements AS r LEFT JOIN adjustments AS a USING (restatement_id)
GROUP BY ALL;
COMMENT ON VIEW restatement_summary IS 'One row per restatement: what the calls that it changes came to before and after.';
COMMENT ON COLUMN restatement_summary.restatement_id IS 'Id of the restatement.';
COMMENT ON COLUMN restatement_summary.restated_at IS 'When it was done (UTC).';
COMMENT ON COLUMN restatement_summary.kind IS 'factors: other factors or another method; grid: hourly grid data that came late or was revised.';
COMMENT ON COLUMN restatement_summary.reason IS 'Why, in words.';
COMMENT ON COLUMN restatement_summary.period_start IS 'Begin of what was restated, by event_time (UTC), inclusive.';
COMMENT ON COLUMN restatement_summary.period_end IS 'End of it (UTC), exclusive.';
COMMENT ON COLUMN restatement_summary.tenant IS 'Only this tenant; NULL: all.';
COMMENT ON COLUMN restatement_summary.method IS 'Version of the estimation method that it was restated with.';
COMMENT ON COLUMN restatement_summary.factors IS 'Version of the factor set that it was restated with.';
COMMENT ON COLUMN restatement_summary.calls IS 'Model calls that were computed again [count].';
COMMENT ON COLUMN restatement_summary.changed_calls IS 'Model calls among them whose figures it changes [count].';
COMMENT ON COLUMN restatement_summary.adjustments IS 'Rows of adjustments [count].';
COMMENT ON COLUMN restatement_summary.old_energy_wh IS 'Energy of the data centre, before, central estimate [Wh].';
COMMENT ON COLUMN restatement_summary.new_energy_wh IS 'Energy of the data centre, after, central estimate [Wh].';
COMMENT ON COLUMN restatement_summary.old_energy_wh_low IS 'Energy of the data centre, before, low end [Wh].';
COMMENT ON COLUMN restatement_summary.new_energy_wh_low IS 'Energy of the data centre, after, low end [Wh].';
COMMENT ON COLUMN restatement_summary.old_energy_wh_high IS 'Energy of the data centre, before, high end [Wh].';
COMMENT ON COLUMN restatement_summary.new_energy_wh_high IS 'Energy of the data centre, after, high end [Wh].';
COMMENT ON COLUMN restatement_summary.difference_energy_wh IS 'Energy of the data centre, after less before, central estimate [Wh].';
COMMENT ON COLUMN restatement_summary.old_carbon_g IS 'Operational carbon, location-based, before, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_carbon_g IS 'Operational carbon, location-based, after, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_carbon_g_low IS 'Operational carbon, location-based, before, low end [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_carbon_g_low IS 'Operational carbon, location-based, after, low end [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_carbon_g_high IS 'Operational carbon, location-based, before, high end [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_carbon_g_high IS 'Operational carbon, location-based, after, high end [gCO2e].';
COMMENT ON COLUMN restatement_summary.difference_carbon_g IS 'Operational carbon, location-based, after less before, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_embodied_g IS 'Embodied carbon of the hardware, before, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_embodied_g IS 'Embodied carbon of the hardware, after, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_embodied_g_low IS 'Embodied carbon of the hardware, before, low end [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_embodied_g_low IS 'Embodied carbon of the hardware, after, low end [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_embodied_g_high IS 'Embodied carbon of the hardware, before, high end [gCO2e].';
COMMENT ON COLUMN restatement_summary.new_embodied_g_high IS 'Embodied carbon of the hardware, after, high end [gCO2e].';
COMMENT ON COLUMN restatement_summary.difference_embodied_g IS 'Embodied carbon of the hardware, after less before, central estimate [gCO2e].';
COMMENT ON COLUMN restatement_summary.old_water_ml IS 'Water, before, central estimate [mL].';
COMMENT ON COLUMN restatement_summary.new_water_ml IS 'Water, after, central estimate [mL].';
COMMENT ON COLUMN restatement_summary.old_water_ml_low IS 'Water, before, low end [mL].';
COMMENT ON COLUMN restatement_summary.new_water_ml_low IS 'Water, after, low end [mL].';
COMMENT ON COLUMN restatement_summary.old_water_ml_high IS 'Water, before, high end [mL].';
COMMENT ON COLUMN restatement_summary.new_water_ml_high IS 'Water, after, high end [mL].';
COMMENT ON COLUMN restatement_summary.difference_water_ml IS 'Water, after less before, central estimate [mL].';

CREATE VIEW restated_hourly AS
SELECT
    hour, tenant, project, provider, model, region, usage_quality,
    sum(calls)::BIGINT AS calls,
    sum(energy_wh)::DOUBLE AS energy_wh,
    sum(energy_wh_low)::DOUBLE AS energy_wh_low,
    sum(energy_wh_high)::DOUBLE AS energy_wh_high,
    sum(carbon_g)::DOUBLE AS carbon_g,
    sum(carbon_g_low)::DOUBLE AS carbon_g_low,
    sum(carbon_g_high)::DOUBLE AS carbon_g_high,
    sum(embodied_g)::DOUBLE AS embodied_g,
    sum(embodied_g_low)::DOUBLE AS embodied_g_low,
    sum(embodied_g_high)::DOUBLE AS embodied_g_high,
    sum(water_ml)::DOUBLE AS water_ml,
    sum(water_ml_low)::DOUBLE AS water_ml_low,
    sum(water_ml_high)::DOUBLE AS water_ml_high
FROM (
    SELECT hour, tenant, project, provider, model, region, usage_quality, calls,
        CAST(energy_wh AS DECIMAL(38, 12)) AS energy_wh, CAST(energy_wh_low AS DECIMAL(38, 12)) AS energy_wh_low, CAST(energy_wh_high AS DECIMAL(38, 12)) AS energy_wh_high, CAST(carbon_g AS DECIMAL(38, 12)) AS carbon_g, CAST(carbon_g_low AS DECIMAL(38, 12)) AS carbon_g_low, CAST(carbon_g_high AS DECIMAL(38, 12)) AS carbon_g_high, CAST(embodied_g AS DECIMAL(38, 12)) AS embodied_g, CAST(embodied_g_low AS DECIMAL(38, 12)) AS embodied_g_low, CAST(embodied_g_high AS DECIMAL(38, 12)) AS embodied_g_high, CAST(water_ml AS DECIMAL(38, 12)) AS water_ml, CAST(water_ml_low AS DECIMAL(38, 12)) AS water_ml_low, CAST(water_ml_high AS DECIMAL(38, 12)) AS water_ml_high
    FROM hourly
    UNION ALL
    SELECT hour, tenant, project, provider, model, region, usage_quality, 0,
        CAST(new_energy_wh AS DECIMAL(38, 12)) - CAST(old_energy_wh AS DECIMAL(38, 12)), CAST(new_energy_wh_low AS DECIMAL(38, 12)) - CAST(old_energy_wh_low AS DECIMAL(38, 12)), CAST(new_energy_wh_high AS DECIMAL(38, 12)) - CAST(old_energy_wh_high AS DECIMAL(38, 12)), CAST(new_carbon_g AS DECIMAL(38, 12)) - CAST(old_carbon_g AS DECIMAL(38, 12)), CAST(new_carbon_g_low AS DECIMAL(38, 12)) - CAST(old_carbon_g_low AS DECIMAL(38, 12)), CAST(new_carbon_g_high AS DECIMAL(38, 12)) - CAST(old_carbon_g_high AS DECIMAL(38, 12)), CAST(new_embodied_g AS DECIMAL(38, 12)) - CAST(old_embodied_g AS DECIMAL(38, 12)), CAST(new_embodied_g_low AS DECIMAL(38, 12)) - CAST(old_embodied_g_low AS DECIMAL(38, 12)), CAST(new_embodied_g_high AS DECIMAL(38, 12)) - CAST(old_embodied_g_high AS DECIMAL(38, 12)), CAST(new_water_ml AS DECIMAL(38, 12)) - CAST(old_water_ml AS DECIMAL(38, 12)), CAST(new_water_ml_low AS DECIMAL(38, 12)) - CAST(old_water_ml_low AS DECIMAL(38, 12)), CAST(new_water_ml_high AS DECIMAL(38, 12)) - CAST(old_water_ml_high AS DECIMAL(38, 12))
    FROM adjustments
) GROUP BY ALL;
COMMENT ON VIEW restated_hourly IS 'Totals per hour and account with every restatement so far; hourly has them as recorded.';
COMMENT ON COLUMN restated_hourly.hour IS 'Begin of the hour of event_time (UTC).';
COMMENT ON COLUMN restated_hourly.tenant IS 'Tenant, as told by the calls.';
COMMENT ON COLUMN restated_hourly.project IS 'Project, as told by the calls.';
COMMENT ON COLUMN restated_hourly.provider IS 'Provider.';
COMMENT ON COLUMN restated_hourly.model IS 'Model.';
COMMENT ON COLUMN restated_hourly.region IS 'Region, as told by the runtime.';
COMMENT ON COLUMN restated_hourly.usage_quality IS 'How the token counts came about: reported, partial, estimated, missing.';
COMMENT ON COLUMN restated_hourly.calls IS 'Model calls [count].';
COMMENT ON COLUMN restated_hourly.energy_wh IS 'Energy of the data centre, restated, central estimate [Wh].';
COMMENT ON COLUMN restated_hourly.energy_wh_low IS 'Energy of the data centre, restated, low end [Wh].';
COMMENT ON COLUMN restated_hourly.energy_wh_high IS 'Energy of the data centre, restated, high end [Wh].';
COMMENT ON COLUMN restated_hourly.carbon_g IS 'Operational carbon, location-based, restated, central estimate [gCO2e].';
COMMENT ON COLUMN restated_hourly.carbon_g_low IS 'Operational carbon, location-based, restated, low end [gCO2e].';
COMMENT ON COLUMN restated_hourly.carbon_g_high IS 'Operational carbon, location-based, restated, high end [gCO2e].';
COMMENT ON COLUMN restated_hourly.embodied_g IS 'Embodied carbon of the hardware, restated, central estimate [gCO2e].';
COMMENT ON COLUMN restated_hourly.embodied_g_low IS 'Embodied carbon of the hardware, restated, low end [gCO2e].';
COMMENT ON COLUMN restated_hourly.embodied_g_high IS 'Embodied carbon of the hardware, restated, high end [gCO2e].';
COMMENT ON COLUMN restated_hourly.water_ml IS 'Water, restated, central estimate [mL].';
COMMENT ON COLUMN restated_hourly.water_ml_low IS 'Water, restated, low end [mL].';
COMMENT ON COLUMN restated_hourly.water_ml_high IS 'Water, restated, high end [mL].';
