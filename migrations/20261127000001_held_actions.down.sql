ALTER TABLE nodes DROP COLUMN kept_by, DROP COLUMN kept_until, DROP COLUMN kept_note;
DROP TABLE waivers;
ALTER TABLE jobs DROP COLUMN on_failure, DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('swap-in', 'swap-out', 'terminate', 'load')) NOT VALID;
