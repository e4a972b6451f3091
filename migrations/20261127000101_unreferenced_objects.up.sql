-- Objects in the store that no row refers to: seen by a look through the store, removed after a grace. One with a reason
-- to keep it stays until an administrator takes the reason away.
CREATE TABLE unreferenced_objects (
    digest   bytea PRIMARY KEY CHECK (length(digest) = 32),
    bytes    bigint NOT NULL CHECK (bytes >= 0),
    seen_at  timestamptz NOT NULL,
    kept_why text CHECK (length(kept_why) BETWEEN 1 AND 500)
);

-- Whether anything refers to an object is asked before it is removed.
CREATE INDEX image_versions_zdi ON image_versions (zdi_digest);
CREATE INDEX image_versions_sig ON image_versions (sig_digest);
CREATE INDEX captures_zdi ON captures (zdi_digest) WHERE zdi_digest IS NOT NULL;
CREATE INDEX captures_sig ON captures (sig_digest) WHERE sig_digest IS NOT NULL;
