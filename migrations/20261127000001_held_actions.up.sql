-- What may be done about what is held, a swap-out taken back, a swap-in given up; and the policy of each swap-out.

-- What becomes of the saved machines when another could not be saved: decided when it was asked for, as `saves` is.
ALTER TABLE jobs ADD COLUMN on_failure text NOT NULL DEFAULT 'release-verified'
    CONSTRAINT jobs_on_failure_check CHECK (on_failure IN ('release-verified', 'hold-all'));
UPDATE jobs SET on_failure = settings.value FROM settings
    WHERE settings.name = 'swap/on_failure' AND jobs.state IN ('running', 'held');
ALTER TABLE jobs DROP CONSTRAINT jobs_kind_check,
    ADD CONSTRAINT jobs_kind_check CHECK (kind IN ('swap-in', 'swap-out', 'terminate', 'load', 'cancel', 'give-up'));

-- Somebody with the right to it, who proved to be that person, gave the unsaved content of a machine up.
CREATE TABLE waivers (
    id       uuid PRIMARY KEY,
    node_id  uuid NOT NULL REFERENCES nodes,
    epoch    bigint NOT NULL,
    user_id  uuid NOT NULL REFERENCES users,
    given_at timestamptz NOT NULL,
    CONSTRAINT waivers_node_key UNIQUE (node_id, epoch)
);

-- A note on a held machine, for people: who wants it left alone, until when and why. Nothing acts on it.
ALTER TABLE nodes ADD COLUMN kept_by uuid REFERENCES users, ADD COLUMN kept_until timestamptz,
    ADD COLUMN kept_note text,
    ADD CONSTRAINT nodes_kept_says_all CHECK ((kept_by IS NULL) = (kept_until IS NULL)
        AND (kept_by IS NULL) = (kept_note IS NULL) AND (kept_by IS NULL OR state = 'held'));
