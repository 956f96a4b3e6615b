-- What Modelog keeps in PostgreSQL, in a schema of its own. The prose that explains it is in `schema/mod.rs`.

-- Texts of any length are unique by their digests: an entry of an index holds 2,700 bytes. With UTF-8 alone, which is
-- checked, what a text's bytes are does not change.
CREATE FUNCTION text_digest(value text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT sha256(convert_to(value, 'UTF8')) $$;

-- For views: `jsonb` does not take all that JSON may hold (`\u0000`, numbers of any length). That is null there.
CREATE FUNCTION as_jsonb(value json) RETURNS jsonb LANGUAGE plpgsql STABLE
    AS $$ BEGIN RETURN value::jsonb; EXCEPTION WHEN others THEN RETURN NULL; END $$;

CREATE TABLE schema_version (
    version bigint NOT NULL
);
COMMENT ON TABLE schema_version IS 'Modelog';

CREATE TABLE checkpoint (
    log_no bigint PRIMARY KEY,
    log_id text NOT NULL,
    epoch bigint NOT NULL,
    log_offset bigint NOT NULL,
    fold_version bigint NOT NULL
);

-- Entities. A row is there from the moment its name is in the log; what no event has told yet is null.

CREATE TABLE models (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    architecture text,
    framework text,
    task_type text,
    description text,
    created_at timestamptz,
    deleted_at timestamptz,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint
);
CREATE UNIQUE INDEX models_by_name ON models (name);

CREATE TABLE model_versions (
    id bigint PRIMARY KEY,
    model_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    checkpoint_path text,
    config json,
    signature json,
    digest text,
    run_id bigint,
    description text,
    created_at timestamptz,
    deleted_at timestamptz,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint
);
CREATE UNIQUE INDEX model_versions_by_name ON model_versions (model_id, name);
CREATE INDEX model_versions_by_model ON model_versions (model_id, id);
CREATE TABLE model_aliases (
    model_id bigint NOT NULL,
    alias text COLLATE "C" NOT NULL,
    version_id bigint NOT NULL,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    PRIMARY KEY (model_id, alias)
);
CREATE INDEX model_aliases_by_version ON model_aliases (version_id);

CREATE TABLE datasets (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    version text,
    uri text,
    split_info json,
    row_count bigint,
    digest text,
    data_schema json,
    created_at timestamptz,
    deleted_at timestamptz,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint
);
CREATE UNIQUE INDEX datasets_by_name ON datasets (name);

CREATE TABLE experiments (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    description text,
    created_at timestamptz,
    deleted_at timestamptz,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint
);
CREATE UNIQUE INDEX experiments_by_name ON experiments (name);

CREATE TABLE runs (
    id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    display_name text COLLATE "C",
    parent_id bigint,
    experiment_id bigint,
    model_id bigint,
    version_id bigint,
    dataset_id bigint,
    started_by text,
    code text,
    has_started boolean NOT NULL DEFAULT false,
    status text COLLATE "C",
    error text,
    started_at timestamptz,
    finished_at timestamptz,
    deleted_at timestamptz,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint
);
CREATE UNIQUE INDEX runs_by_name ON runs (name);
CREATE INDEX runs_by_start ON runs (started_at, id);
CREATE INDEX runs_by_label ON runs (left(coalesce(display_name, name), 200));
CREATE INDEX runs_by_experiment ON runs (experiment_id, started_at, id);
CREATE INDEX runs_by_model ON runs (model_id, started_at, id);
CREATE INDEX runs_by_status ON runs (status, started_at, id);

CREATE TABLE run_params (
    run_id bigint NOT NULL,
    param_key text COLLATE "C" NOT NULL,
    param_value json NOT NULL,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    place bigint NOT NULL,
    key_digest bytea GENERATED ALWAYS AS (text_digest(param_key)) STORED
);
CREATE UNIQUE INDEX run_params_once ON run_params (run_id, key_digest);

CREATE TABLE run_datasets (
    run_id bigint NOT NULL,
    dataset_id bigint NOT NULL,
    version text,
    role text,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    key_digest bytea GENERATED ALWAYS AS
        (text_digest(coalesce(length(version)::text || '=' || version, '') || '/' || coalesce('=' || role, ''))) STORED
);
CREATE UNIQUE INDEX run_datasets_once ON run_datasets (run_id, dataset_id, key_digest);

CREATE TABLE artifacts (
    run_id bigint NOT NULL,
    version_id bigint NOT NULL,
    uri text NOT NULL,
    name text COLLATE "C",
    media_type text,
    size_bytes bigint,
    digest text,
    metadata json,
    time timestamptz NOT NULL,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    key_digest bytea GENERATED ALWAYS AS (text_digest(uri)) STORED
);
CREATE UNIQUE INDEX artifacts_once ON artifacts (run_id, version_id, key_digest);
CREATE INDEX artifacts_by_version ON artifacts (version_id);

CREATE TABLE tags (
    entity_kind text COLLATE "C" NOT NULL,
    entity_id bigint NOT NULL,
    tag_key text COLLATE "C" NOT NULL,
    tag_value json NOT NULL,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    place bigint NOT NULL,
    key_digest bytea GENERATED ALWAYS AS (text_digest(tag_key)) STORED
);
CREATE UNIQUE INDEX tags_once ON tags (entity_kind, entity_id, key_digest);

-- Metrics: a series in short, and its points.

CREATE TABLE metric_latest (
    series_id bigint PRIMARY KEY,
    owner_kind text COLLATE "C" NOT NULL,
    owner_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    split text COLLATE "C",
    points bigint NOT NULL,
    last_step bigint NOT NULL,
    last_time timestamptz NOT NULL,
    last_value double precision,
    last_non_finite text,
    last_epoch double precision,
    last_epoch_non_finite text,
    last_log_offset bigint NOT NULL,
    min_value double precision,
    max_value double precision,
    log_no bigint NOT NULL DEFAULT 0
);
CREATE INDEX metric_latest_by_name ON metric_latest (owner_kind, owner_id, name);

CREATE TABLE metrics (
    series_id bigint NOT NULL,
    step bigint NOT NULL,
    time timestamptz NOT NULL,
    value_key bigint NOT NULL,
    value double precision,
    non_finite text,
    epoch double precision,
    epoch_non_finite text,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL,
    PRIMARY KEY (series_id, step, time, value_key)
);

-- Predictions and what came back on them.

CREATE TABLE predictions (
    log_offset bigint PRIMARY KEY,
    log_no bigint NOT NULL DEFAULT 0,
    model_id bigint NOT NULL,
    version_id bigint NOT NULL,
    prediction_id text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    append_time timestamptz NOT NULL,
    complete boolean NOT NULL,
    input json,
    output json,
    predicted_class text,
    predicted_value double precision,
    confidence double precision,
    inference_time_ms double precision,
    timings json,
    request_id text,
    trace_id text,
    session_id text,
    user_id text,
    environment text,
    sample_rate double precision,
    input_tokens bigint,
    output_tokens bigint,
    time_to_first_token_ms double precision,
    error text,
    tags json,
    non_finite json
);
CREATE UNIQUE INDEX predictions_by_id ON predictions (prediction_id, model_id);
CREATE INDEX predictions_by_version ON predictions (version_id, time, log_offset);

CREATE TABLE feedback (
    log_offset bigint PRIMARY KEY,
    log_no bigint NOT NULL DEFAULT 0,
    prediction_id text COLLATE "C" NOT NULL,
    model_id bigint,
    version_id bigint,
    time timestamptz NOT NULL,
    append_time timestamptz NOT NULL,
    true_class text,
    true_value double precision,
    correct boolean,
    label json,
    score double precision,
    score_name text,
    feedback_source text,
    non_finite json
);
CREATE INDEX feedback_by_prediction ON feedback (prediction_id, time, log_offset);

-- The engine's statistics, published.

CREATE TABLE statistics (
    version_id bigint PRIMARY KEY,
    log_no bigint NOT NULL DEFAULT 0,
    predictions bigint NOT NULL,
    errors bigint NOT NULL,
    first_time timestamptz,
    last_time timestamptz,
    latency_ms_mean double precision,
    latency_ms_p50 double precision,
    latency_ms_p95 double precision,
    latency_ms_p99 double precision,
    confidence_mean double precision,
    labelled bigint NOT NULL,
    correct bigint NOT NULL,
    state bytea NOT NULL
);

CREATE TABLE statistics_totals (
    log_no bigint PRIMARY KEY,
    as_of_offset bigint NOT NULL,
    events bigint NOT NULL,
    models bigint NOT NULL,
    versions bigint NOT NULL,
    datasets bigint NOT NULL,
    experiments bigint NOT NULL,
    runs bigint NOT NULL,
    metric_points bigint NOT NULL,
    predictions bigint NOT NULL,
    prediction_errors bigint NOT NULL,
    feedback bigint NOT NULL,
    feedback_unmatched bigint NOT NULL,
    rejected bigint NOT NULL
);

-- Rows that the database did not take.

CREATE TABLE rejected_rows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name text NOT NULL,
    reason text NOT NULL,
    log_no bigint NOT NULL DEFAULT 0,
    log_offset bigint NOT NULL
);

-- For analysts.

CREATE VIEW run_details AS
SELECT
    r.id, r.name AS run, r.display_name, p.name AS parent, e.name AS experiment, m.name AS model,
    v.name AS version, d.name AS dataset, r.started_by, r.code, r.status, r.error,
    r.started_at,
    r.finished_at
FROM runs r
LEFT JOIN runs p ON p.id = r.parent_id
LEFT JOIN experiments e ON e.id = r.experiment_id
LEFT JOIN models m ON m.id = r.model_id
LEFT JOIN model_versions v ON v.id = r.version_id
LEFT JOIN datasets d ON d.id = r.dataset_id
WHERE r.deleted_at IS NULL;

CREATE VIEW metric_details AS
SELECT
    r.name AS run, m.name AS model, v.name AS version, s.name AS metric, s.split, p.step, p.epoch,
    p.value, p.non_finite,
    p.time, p.log_offset
FROM metric_latest s
JOIN metrics p ON p.series_id = s.series_id
LEFT JOIN runs r ON s.owner_kind = 'run' AND r.id = s.owner_id
LEFT JOIN model_versions v ON s.owner_kind = 'version' AND v.id = s.owner_id
LEFT JOIN models m ON m.id = v.model_id;

CREATE VIEW prediction_details AS
SELECT
    p.prediction_id, m.name AS model, v.name AS version,
    p.time,
    as_jsonb(p.input) AS input, as_jsonb(p.output) AS output, p.predicted_class, p.predicted_value, p.confidence, p.inference_time_ms,
    as_jsonb(p.timings) AS timings, p.request_id, p.trace_id, p.session_id, p.user_id, p.environment, p.sample_rate,
    p.input_tokens, p.output_tokens, p.time_to_first_token_ms, p.error, as_jsonb(p.tags) AS tags, p.non_finite,
    f.true_class, f.true_value, coalesce(f.correct, p.predicted_class = f.true_class) AS correct,
    as_jsonb(f.label) AS label, f.score, f.score_name, f.feedback_source,
    f.time AS feedback_time, p.log_offset
FROM predictions p
JOIN models m ON m.id = p.model_id
JOIN model_versions v ON v.id = p.version_id
LEFT JOIN feedback f ON f.log_offset = (
    SELECT g.log_offset FROM feedback g
    WHERE g.prediction_id = p.prediction_id AND (g.model_id = p.model_id OR g.model_id IS NULL)
    ORDER BY g.time DESC, g.log_offset DESC LIMIT 1
);
