-- Footprint per day
-- The last thirty days that have calls, all tenants together.
SELECT day, sum(calls) AS calls, round(sum(energy_kwh), 3) AS energy_kwh,
    round(sum(carbon_kg), 3) AS carbon_kg, round(sum(carbon_kg_low), 3) AS low,
    round(sum(carbon_kg_high), 3) AS high, round(sum(water_l), 1) AS water_l
FROM daily_footprint
WHERE day > (SELECT max(day) FROM daily_footprint) - INTERVAL 30 DAY
GROUP BY day ORDER BY day;

-- Footprint per tenant and project
-- Each month, operational and embodied carbon apart; a tenant of NULL was never told.
SELECT date_trunc('month', day)::DATE AS month, tenant, project, sum(calls) AS calls,
    sum(carbon_kg) AS operational_kg, sum(embodied_kg) AS embodied_kg, sum(cost_usd) AS cost_usd
FROM daily_footprint
GROUP BY ALL ORDER BY month, operational_kg DESC;

-- Month totals for a report
-- Scope 3, Category 1, in grams and in tonnes, with the range.
SELECT period_start, period_end, sum(total_t) * 1e6 AS total_g, sum(total_t) AS total_t,
    sum(total_t_low) AS total_t_low, sum(total_t_high) AS total_t_high
FROM scope3_category1
GROUP BY ALL ORDER BY period_start;

-- Category 1 by model and region
-- What a month's total is made of, and with which method and factors it was estimated.
SELECT period_start, provider, model, region, quality_tier, method, factors,
    sum(calls) AS calls, sum(energy_kwh) AS energy_kwh, sum(total_t) AS total_t
FROM scope3_category1
GROUP BY ALL ORDER BY period_start, total_t DESC;

-- Runs with the largest footprint
-- Central estimates with their range, and how the run ended.
SELECT run_id, task, tenant, status, calls, carbon_g, carbon_g_low, carbon_g_high, embodied_g,
    water_ml, cost_usd
FROM run_summary
ORDER BY carbon_g DESC, run_id LIMIT 20;

-- Runs by the share of their budget
-- Above 1 the run went over; the bound that its policy names is compared.
SELECT run_id, task, status, carbon_budget_g, budget_used, overshoot_g
FROM run_summary
WHERE budget_used IS NOT NULL
ORDER BY budget_used DESC, run_id LIMIT 20;

-- Agents of the largest run
-- Who of them spends how much of it.
SELECT agent_id, calls, output_tokens, carbon_g, carbon_g_per_call,
    round(100 * carbon_g / nullif(sum(carbon_g) OVER (), 0), 1) AS percent_of_run
FROM agent_summary
WHERE run_id = (SELECT run_id FROM run_summary ORDER BY carbon_g DESC, run_id LIMIT 1)
ORDER BY carbon_g DESC, agent_id;

-- Models compared
-- What a call and a thousand output tokens cost with each model that was used.
SELECT provider, model, calls, energy_wh_per_call, carbon_g_per_call, carbon_g_per_1k_output,
    intensity_g_per_kwh, cost_usd
FROM model_comparison
ORDER BY carbon_g_per_1k_output NULLS LAST, provider, model;

-- Budget breaches and how fast runs stopped
-- One row per command; an outcome of NULL is not acknowledged yet.
SELECT issued_at, run_id, action, reason, budget_g, spent_g, over_g, outcome, overshoot_g,
    overshoot_ms, escalated_at
FROM budget_breaches
ORDER BY issued_at DESC, command_id LIMIT 50;

-- How much rests on what
-- Tiers of data quality by month; 2 is the best so far, 5 means an unknown model or place.
SELECT period_start, quality_tier, sum(calls) AS calls,
    round(100 * sum(share_of_calls), 1) AS percent_of_calls,
    round(100 * sum(share_of_carbon), 1) AS percent_of_carbon
FROM data_quality
GROUP BY ALL ORDER BY period_start, quality_tier;

-- What was assumed
-- Codes of the estimates, by the carbon that they bear on; docs/methodology.md explains them.
SELECT code, sum(calls) AS calls, sum(carbon_g) AS carbon_g
FROM (SELECT unnest(string_split(codes, ',')) AS code, calls, carbon_g FROM daily)
WHERE code <> ''
GROUP BY code ORDER BY carbon_g DESC, code;

-- Hours of the day by region
-- Where and when (UTC) electricity is used: what could move to cleaner hours.
SELECT region, hour(hour) AS hour_of_day, sum(calls) AS calls, sum(energy_wh) AS energy_wh
FROM hourly_zone_energy
GROUP BY ALL ORDER BY region, hour_of_day;

-- Hours that used most energy
-- With the carbon intensity of the electricity there and then.
SELECT hour, provider, region, energy_wh, carbon_g, intensity_g_per_kwh
FROM hourly_zone_energy
ORDER BY energy_wh DESC, hour, provider, region LIMIT 24;

-- Calls of a run, one by one
-- From the ledger: every call with its factors and its place on the events topic.
SELECT event_time, agent_id, model, region, input_tokens, output_tokens, carbon_g, quality,
    method, factors, source_partition, source_offset
FROM events
WHERE run_id = (SELECT run_id FROM run_summary ORDER BY carbon_g DESC, run_id LIMIT 1)
ORDER BY event_time, source_partition, source_offset LIMIT 1000;

-- Dead letters by reason
-- What was refused, where, and when last.
SELECT step, reason, count(*) AS records, max(refused_at) AS last_refused_at
FROM dead_letters
GROUP BY ALL ORDER BY records DESC, reason;

-- Factor sets in use
-- Which versions estimates were made with, and whether their content is kept here.
SELECT f.factors, f.method, f.content IS NOT NULL AS is_kept, min(d.day) AS first_day,
    max(d.day) AS last_day, sum(d.calls) AS calls
FROM factor_sets AS f JOIN daily AS d ON d.factors = f.factors AND d.method = f.method
GROUP BY ALL ORDER BY first_day, f.factors;
