-- The main job: who owns what, which machine holds what, and what is being done about it.
-- States are text with CHECKs; the typed transitions live in boss/model, and each is one UPDATE guarded by
-- (state, epoch, term) that must touch exactly one row.

-- People ------------------------------------------------------------------------------------------------------------
CREATE TABLE users (
    id            uuid PRIMARY KEY,
    name          text NOT NULL CONSTRAINT users_name_key UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,31}$'),
    password_hash text NOT NULL,
    role          text NOT NULL CHECK (role IN ('member', 'operator', 'admin')),
    created_at    timestamptz NOT NULL
);

-- A login of a browser or of the command line. Only the hash of its token is kept.
CREATE TABLE sessions (
    token_hash   bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    user_id      uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    kind         text NOT NULL CHECK (kind IN ('web', 'api')),
    csrf_token   text NOT NULL,
    created_at   timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE projects (
    id         uuid PRIMARY KEY,
    pid        text NOT NULL CONSTRAINT projects_pid_key UNIQUE CHECK (pid ~ '^[a-z][a-z0-9-]{0,31}$'),
    created_at timestamptz NOT NULL
);

CREATE TABLE project_members (
    project_id uuid NOT NULL REFERENCES projects ON DELETE CASCADE,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    role       text NOT NULL CHECK (role IN ('member', 'leader')),
    PRIMARY KEY (project_id, user_id)
);

-- Images ------------------------------------------------------------------------------------------------------------
CREATE TABLE signing_keys (
    key_id     text PRIMARY KEY CHECK (key_id ~ '^[0-9a-f]{32}$'),
    public_pem text NOT NULL,
    comment    text NOT NULL,
    state      text NOT NULL CHECK (state IN ('trusted', 'retired')),
    added_at   timestamptz NOT NULL,
    retired_at timestamptz
);

CREATE TABLE images (
    id         uuid PRIMARY KEY,
    project_id uuid NOT NULL REFERENCES projects,
    name       text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,31}$'),
    created_at timestamptz NOT NULL,
    CONSTRAINT images_name_key UNIQUE (project_id, name)
);

-- Immutable once written: a new content is a new version.
CREATE TABLE image_versions (
    id             uuid PRIMARY KEY,
    image_id       uuid NOT NULL REFERENCES images,
    version        integer NOT NULL CHECK (version >= 1),
    zdi_digest     bytea NOT NULL CHECK (length(zdi_digest) = 32),
    zdi_bytes      bigint NOT NULL CHECK (zdi_bytes > 0),
    sig_digest     bytea NOT NULL CHECK (length(sig_digest) = 32),
    sig_bytes      bigint NOT NULL CHECK (sig_bytes > 0),
    root           bytea NOT NULL CHECK (length(root) = 32),
    disk_bytes     bigint NOT NULL CHECK (disk_bytes > 0),
    min_disk_bytes bigint NOT NULL CHECK (min_disk_bytes > 0),
    sealed         text NOT NULL,
    key_id         text NOT NULL REFERENCES signing_keys,
    retired_at     timestamptz,
    created_at     timestamptz NOT NULL,
    CONSTRAINT image_versions_version_key UNIQUE (image_id, version)
);
CREATE INDEX image_versions_root ON image_versions (root);

-- Experiments -------------------------------------------------------------------------------------------------------
CREATE TABLE experiments (
    id              uuid PRIMARY KEY,
    project_id      uuid NOT NULL REFERENCES projects,
    eid             text NOT NULL CHECK (eid ~ '^[a-z][a-z0-9-]{0,31}$'),
    state           text NOT NULL CHECK (state IN
                        ('swapped', 'activating', 'active', 'swapping', 'terminating', 'ended', 'held')),
    save_swap_state boolean NOT NULL,
    creator_id      uuid NOT NULL REFERENCES users,
    created_at      timestamptz NOT NULL,
    state_since     timestamptz NOT NULL
);
-- An ended experiment gives its name back; a new one inherits nothing but the name.
CREATE UNIQUE INDEX experiments_eid_key ON experiments (project_id, eid) WHERE state <> 'ended';

-- Machines ----------------------------------------------------------------------------------------------------------
CREATE TABLE nodes (
    id          uuid PRIMARY KEY,
    name        text NOT NULL CONSTRAINT nodes_name_key UNIQUE CHECK (name ~ '^[a-z][a-z0-9-]{0,31}$'),
    state       text NOT NULL CHECK (state IN ('free', 'reserved', 'restoring', 'checked', 'in_use', 'quiescing',
                    'capturing', 'releasable', 'sanitizing', 'rebooting', 'held')),
    epoch       bigint NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    power       jsonb NOT NULL,
    held_reason text,
    held_owner  text,
    held_next   text,
    held_from   text,
    state_since timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    CONSTRAINT nodes_held_says_why CHECK ((state = 'held') = (held_reason IS NOT NULL AND held_owner IS NOT NULL
                    AND held_next IS NOT NULL AND held_from IS NOT NULL))
);

CREATE TABLE disks (
    id          uuid PRIMARY KEY,
    node_id     uuid NOT NULL REFERENCES nodes,
    name        text NOT NULL CHECK (name ~ '^[a-z][a-z0-9-]{0,31}$'),
    serial      text NOT NULL CONSTRAINT disks_serial_key UNIQUE CHECK (length(serial) BETWEEN 1 AND 128),
    bytes       bigint NOT NULL CHECK (bytes > 0),
    sector_size integer NOT NULL CHECK (sector_size IN (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)),
    position    integer NOT NULL CHECK (position >= 0),
    CONSTRAINT disks_name_key UNIQUE (node_id, name),
    CONSTRAINT disks_position_key UNIQUE (node_id, position)
);

CREATE TABLE virtual_nodes (
    id               uuid PRIMARY KEY,
    experiment_id    uuid NOT NULL REFERENCES experiments ON DELETE CASCADE,
    vname            text NOT NULL CHECK (vname ~ '^[a-z][a-z0-9-]{0,31}$'),
    image_version_id uuid NOT NULL REFERENCES image_versions,
    node_id          uuid CONSTRAINT virtual_nodes_node_key UNIQUE REFERENCES nodes,
    CONSTRAINT virtual_nodes_vname_key UNIQUE (experiment_id, vname)
);

-- What was loaded where: comparison is by place on the disk, whatever its partition table says today.
CREATE TABLE segments (
    id               uuid PRIMARY KEY,
    disk_id          uuid NOT NULL REFERENCES disks ON DELETE CASCADE,
    start_byte       bigint NOT NULL CHECK (start_byte >= 0),
    bytes            bigint NOT NULL CHECK (bytes > 0),
    image_version_id uuid NOT NULL REFERENCES image_versions,
    root             bytea NOT NULL CHECK (length(root) = 32),
    loaded_at        timestamptz NOT NULL,
    CONSTRAINT segments_place_key UNIQUE (disk_id, start_byte)
);

-- One boot of the memory file system of a node. The token is exchanged once for the agent's own secret.
CREATE TABLE agent_boots (
    id           uuid PRIMARY KEY,
    node_id      uuid NOT NULL REFERENCES nodes,
    epoch        bigint NOT NULL,
    token_hash   bytea NOT NULL CONSTRAINT agent_boots_token_key UNIQUE CHECK (length(token_hash) = 32),
    secret_hash  bytea CONSTRAINT agent_boots_secret_key UNIQUE CHECK (length(secret_hash) = 32),
    state        text NOT NULL CHECK (state IN ('booting', 'registered', 'ended', 'revoked')),
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    last_seen_at timestamptz
);
-- At most one boot of a node is alive: a second claim revokes the first.
CREATE UNIQUE INDEX agent_boots_alive ON agent_boots (node_id) WHERE state IN ('booting', 'registered');

-- Work --------------------------------------------------------------------------------------------------------------
-- What a person asked for and can watch. Not a queue: the reconciler looks at states, not at jobs.
CREATE TABLE jobs (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('swap-in', 'swap-out', 'terminate', 'load')),
    experiment_id uuid NOT NULL REFERENCES experiments,
    node_id       uuid REFERENCES nodes,
    requester_id  uuid NOT NULL REFERENCES users,
    state         text NOT NULL CHECK (state IN ('running', 'done', 'failed', 'held')),
    -- Whether a swap-out saves: decided when it was asked for, whatever becomes of the box meanwhile.
    saves         boolean NOT NULL DEFAULT false,
    detail        text,
    created_at    timestamptz NOT NULL,
    ended_at      timestamptz,
    CONSTRAINT jobs_end CHECK ((state IN ('done', 'failed')) = (ended_at IS NOT NULL))
);
CREATE UNIQUE INDEX jobs_one_at_a_time ON jobs (experiment_id) WHERE state IN ('running', 'held');

CREATE TABLE swap_points (
    id            uuid PRIMARY KEY,
    experiment_id uuid NOT NULL REFERENCES experiments,
    number        integer NOT NULL CHECK (number >= 1),
    state         text NOT NULL CHECK (state IN ('open', 'complete', 'incomplete')),
    sealed        text,
    opened_at     timestamptz NOT NULL,
    closed_at     timestamptz,
    CONSTRAINT swap_points_number_key UNIQUE (experiment_id, number),
    CONSTRAINT swap_points_seal CHECK ((state = 'complete') <= (sealed IS NOT NULL))
);

-- One disk of one node in one swap point. Each attempt is one full scan in one agent boot.
CREATE TABLE captures (
    id              uuid PRIMARY KEY,
    swap_point_id   uuid NOT NULL REFERENCES swap_points,
    virtual_node_id uuid NOT NULL REFERENCES virtual_nodes,
    node_id         uuid NOT NULL REFERENCES nodes,
    disk_id         uuid NOT NULL REFERENCES disks,
    epoch           bigint NOT NULL,
    state           text NOT NULL CHECK (state IN
                        ('planned', 'frozen', 'streaming', 'received', 'verified', 'retired', 'failed')),
    attempt         integer NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    -- The attempts made before somebody last said "retry", and the boot and the start of the present one.
    attempts_before integer NOT NULL DEFAULT 0,
    boot_id         uuid REFERENCES agent_boots,
    attempt_at      timestamptz,
    base_version_id uuid REFERENCES image_versions,
    scanned_bytes   bigint NOT NULL DEFAULT 0,
    total_bytes     bigint NOT NULL DEFAULT 0,
    changed_bytes   bigint NOT NULL DEFAULT 0,
    sent_bytes      bigint NOT NULL DEFAULT 0,
    progress_at     timestamptz,
    started_at      timestamptz,
    ended_at        timestamptz,
    target_root     bytea CHECK (length(target_root) = 32),
    zdi_digest      bytea CHECK (length(zdi_digest) = 32),
    zdi_bytes       bigint CHECK (zdi_bytes > 0),
    min_disk_bytes  bigint CHECK (min_disk_bytes > 0),
    sig_digest      bytea CHECK (length(sig_digest) = 32),
    failure_class   text,
    failure_reason  text,
    CONSTRAINT captures_disk_key UNIQUE (swap_point_id, disk_id),
    CONSTRAINT captures_verified_is_whole CHECK (state <> 'verified' OR
                        (target_root IS NOT NULL AND zdi_digest IS NOT NULL AND zdi_bytes IS NOT NULL)),
    CONSTRAINT captures_failure CHECK ((state = 'failed') = (failure_class IS NOT NULL AND failure_reason IS NOT NULL))
);
CREATE INDEX captures_node ON captures (node_id, epoch);

-- A write to a disk and the permit it happens under, in one row: there is none without the other.
CREATE TABLE disk_writes (
    id               uuid PRIMARY KEY,
    node_id          uuid NOT NULL REFERENCES nodes,
    disk_id          uuid NOT NULL REFERENCES disks,
    epoch            bigint NOT NULL,
    job_id           uuid NOT NULL REFERENCES jobs,
    purpose          text NOT NULL CHECK (purpose IN ('load', 'restore', 'sanitize')),
    image_version_id uuid REFERENCES image_versions,
    capture_id       uuid REFERENCES captures,
    evidence         text NOT NULL,
    permit           text NOT NULL,
    state            text NOT NULL CHECK (state IN ('issued', 'running', 'done', 'failed', 'void')),
    attempt          integer NOT NULL DEFAULT 0,
    attempts_before  integer NOT NULL DEFAULT 0,
    boot_id          uuid REFERENCES agent_boots,
    attempt_at       timestamptz,
    done_bytes       bigint NOT NULL DEFAULT 0,
    total_bytes      bigint NOT NULL DEFAULT 0,
    progress_at      timestamptz,
    root             bytea CHECK (length(root) = 32),
    failure_class    text,
    failure_reason   text,
    issued_at        timestamptz NOT NULL,
    ended_at         timestamptz,
    CONSTRAINT disk_writes_failure CHECK ((state = 'failed') = (failure_class IS NOT NULL AND failure_reason IS NOT NULL))
);
CREATE UNIQUE INDEX disk_writes_one_open ON disk_writes (disk_id) WHERE state IN ('issued', 'running');

-- What happened, for people, in order.
CREATE TABLE events (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    experiment_id uuid REFERENCES experiments,
    node_id       uuid REFERENCES nodes,
    user_id       uuid REFERENCES users,
    kind          text NOT NULL,
    message       text NOT NULL,
    at            timestamptz NOT NULL
);
CREATE INDEX events_experiment ON events (experiment_id, id);
CREATE INDEX events_node ON events (node_id, id);

-- Site variables that differ from their defaults; names, types and defaults live in boss/model.
CREATE TABLE settings (
    name       text PRIMARY KEY,
    value      text NOT NULL,
    changed_by uuid REFERENCES users,
    changed_at timestamptz NOT NULL
);

-- The ruling boss. Each start takes the next term; an effect under an older one is refused.
CREATE TABLE boss_term (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    term     bigint NOT NULL
);
INSERT INTO boss_term (term) VALUES (0);
