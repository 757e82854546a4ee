-- The zone's value of the very hour is no assumption about the place: the code intensity_hour does not
-- lower the tier, as any code intensity_… did before.

CREATE OR REPLACE MACRO quality_tier(codes) AS CASE
    WHEN regexp_matches(codes, '(^|,)(model_unknown|model_class|region_world|intensity_world)(,|$)') THEN 5
    WHEN regexp_matches(codes, '(^|,)parameters_undisclosed(,|$)') THEN 4
    WHEN regexp_matches(codes, '(^|,)(region_|intensity_country|hardware_assumed|hardware_unknown|pue_world)') THEN 3
    ELSE 2 END;
COMMENT ON MACRO quality_tier IS 'Tier of data quality from codes: 2 open weights at a known place, 3 the same with place or hardware assumed, 4 a model whose vendor publishes no size, 5 unknown model or place. Tier 1, energy measured by the provider, does not occur yet.';
