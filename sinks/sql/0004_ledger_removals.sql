-- What was removed from the ledger to keep it small. Aggregates and positions are never removed.

CREATE TABLE ledger_removals (
    removal_id VARCHAR NOT NULL,
    removed_from VARCHAR NOT NULL,
    day DATE NOT NULL,
    row_count BIGINT NOT NULL,
    carbon_g DOUBLE,
    reason VARCHAR NOT NULL,
    exported_to VARCHAR,
    marlin_version VARCHAR NOT NULL,
    removed_at TIMESTAMPTZ NOT NULL
);
COMMENT ON TABLE ledger_removals IS 'Rows that were removed from the ledger or the dead letters, counted by day. The aggregates still have them.';
COMMENT ON COLUMN ledger_removals.removal_id IS 'Id of the removal: it has one row per table and day that it removed from.';
COMMENT ON COLUMN ledger_removals.removed_from IS 'Table: events or dead_letters.';
COMMENT ON COLUMN ledger_removals.day IS 'Day (UTC) of event_time, or of refused_at, of what was removed.';
COMMENT ON COLUMN ledger_removals.row_count IS 'Rows that were removed [count].';
COMMENT ON COLUMN ledger_removals.carbon_g IS 'Operational carbon of the calls that were removed, central estimate [gCO2e]; NULL: dead letters.';
COMMENT ON COLUMN ledger_removals.reason IS 'retention: older than the sink keeps them; trim: somebody asked for it.';
COMMENT ON COLUMN ledger_removals.exported_to IS 'Folder that the rows were exported to before; NULL: they were not.';
COMMENT ON COLUMN ledger_removals.marlin_version IS 'Version of Marlin that removed them.';
COMMENT ON COLUMN ledger_removals.removed_at IS 'When they were removed (UTC).';
