-- What Modelog keeps in SQLite. The prose that explains it is in `schema/mod.rs`.

CREATE TABLE schema_version (
    version INTEGER NOT NULL
) STRICT;

CREATE TABLE checkpoint (
    log_no INTEGER PRIMARY KEY,
    log_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    log_offset INTEGER NOT NULL,
    fold_version INTEGER NOT NULL
) STRICT;

-- Entities. A row is there from the moment its name is in the log; what no event has told yet is null.

CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    architecture TEXT,
    framework TEXT,
    task_type TEXT,
    description TEXT,
    created_at INTEGER,
    deleted_at INTEGER,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX models_by_name ON models (name);

CREATE TABLE model_versions (
    id INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    checkpoint_path TEXT,
    config TEXT,
    signature TEXT,
    digest TEXT,
    run_id INTEGER,
    description TEXT,
    created_at INTEGER,
    deleted_at INTEGER,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX model_versions_by_name ON model_versions (model_id, name);
CREATE INDEX model_versions_by_model ON model_versions (model_id);
CREATE TABLE model_aliases (
    model_id INTEGER NOT NULL,
    alias TEXT NOT NULL,
    version_id INTEGER NOT NULL,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL,
    PRIMARY KEY (model_id, alias)
) STRICT, WITHOUT ROWID;
CREATE INDEX model_aliases_by_version ON model_aliases (version_id);

CREATE TABLE datasets (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT,
    uri TEXT,
    split_info TEXT,
    row_count INTEGER,
    digest TEXT,
    data_schema TEXT,
    created_at INTEGER,
    deleted_at INTEGER,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX datasets_by_name ON datasets (name);

CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    created_at INTEGER,
    deleted_at INTEGER,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX experiments_by_name ON experiments (name);

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    display_name TEXT,
    parent_id INTEGER,
    experiment_id INTEGER,
    model_id INTEGER,
    version_id INTEGER,
    dataset_id INTEGER,
    started_by TEXT,
    code TEXT,
    has_started INTEGER NOT NULL DEFAULT 0,
    status TEXT,
    error TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    deleted_at INTEGER,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER
) STRICT;
CREATE UNIQUE INDEX runs_by_name ON runs (name);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_label ON runs (coalesce(display_name, name));
CREATE INDEX runs_by_experiment ON runs (experiment_id, started_at);
CREATE INDEX runs_by_model ON runs (model_id, started_at);
CREATE INDEX runs_by_status ON runs (status, started_at);

CREATE TABLE run_params (
    run_id INTEGER NOT NULL,
    param_key TEXT NOT NULL,
    param_value TEXT NOT NULL,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (run_id, param_key)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_datasets (
    run_id INTEGER NOT NULL,
    dataset_id INTEGER NOT NULL,
    version TEXT,
    role TEXT,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX run_datasets_once ON run_datasets
    (run_id, dataset_id, coalesce('=' || version, ''), coalesce('=' || role, ''));

CREATE TABLE artifacts (
    run_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    uri TEXT NOT NULL,
    name TEXT,
    media_type TEXT,
    size_bytes INTEGER,
    digest TEXT,
    metadata TEXT,
    time INTEGER NOT NULL,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL,
    PRIMARY KEY (run_id, version_id, uri)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_by_version ON artifacts (version_id);

CREATE TABLE tags (
    entity_kind TEXT NOT NULL,
    entity_id INTEGER NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (entity_kind, entity_id, tag_key)
) STRICT, WITHOUT ROWID;

-- Metrics: a series in short, and its points.

CREATE TABLE metric_latest (
    series_id INTEGER PRIMARY KEY,
    owner_kind TEXT NOT NULL,
    owner_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    split TEXT,
    points INTEGER NOT NULL,
    last_step INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    last_value REAL,
    last_non_finite TEXT,
    last_epoch REAL,
    last_epoch_non_finite TEXT,
    last_log_offset INTEGER NOT NULL,
    min_value REAL,
    max_value REAL,
    log_no INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX metric_latest_by_name ON metric_latest
    (owner_kind, owner_id, name, coalesce('=' || split, ''));

CREATE TABLE metrics (
    series_id INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time INTEGER NOT NULL,
    value_key INTEGER NOT NULL,
    value REAL,
    non_finite TEXT,
    epoch REAL,
    epoch_non_finite TEXT,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL,
    PRIMARY KEY (series_id, step, time, value_key)
) STRICT, WITHOUT ROWID;

-- Predictions and what came back on them.

CREATE TABLE predictions (
    log_offset INTEGER PRIMARY KEY,
    log_no INTEGER NOT NULL DEFAULT 0,
    model_id INTEGER NOT NULL,
    version_id INTEGER NOT NULL,
    prediction_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    append_time INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    input TEXT,
    output TEXT,
    predicted_class TEXT,
    predicted_value REAL,
    confidence REAL,
    inference_time_ms REAL,
    timings TEXT,
    request_id TEXT,
    trace_id TEXT,
    session_id TEXT,
    user_id TEXT,
    environment TEXT,
    sample_rate REAL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    time_to_first_token_ms REAL,
    error TEXT,
    tags TEXT,
    non_finite TEXT
) STRICT;
CREATE UNIQUE INDEX predictions_by_id ON predictions (prediction_id, model_id);
CREATE INDEX predictions_by_version ON predictions (version_id, time);

CREATE TABLE feedback (
    log_offset INTEGER PRIMARY KEY,
    log_no INTEGER NOT NULL DEFAULT 0,
    prediction_id TEXT NOT NULL,
    model_id INTEGER,
    version_id INTEGER,
    time INTEGER NOT NULL,
    append_time INTEGER NOT NULL,
    true_class TEXT,
    true_value REAL,
    correct INTEGER,
    label TEXT,
    score REAL,
    score_name TEXT,
    feedback_source TEXT,
    non_finite TEXT
) STRICT;
CREATE INDEX feedback_by_prediction ON feedback (prediction_id, time);

-- The engine's statistics, published.

CREATE TABLE statistics (
    version_id INTEGER PRIMARY KEY,
    log_no INTEGER NOT NULL DEFAULT 0,
    predictions INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    first_time INTEGER,
    last_time INTEGER,
    latency_ms_mean REAL,
    latency_ms_p50 REAL,
    latency_ms_p95 REAL,
    latency_ms_p99 REAL,
    confidence_mean REAL,
    labelled INTEGER NOT NULL,
    correct INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;

CREATE TABLE statistics_totals (
    log_no INTEGER PRIMARY KEY,
    as_of_offset INTEGER NOT NULL,
    events INTEGER NOT NULL,
    models INTEGER NOT NULL,
    versions INTEGER NOT NULL,
    datasets INTEGER NOT NULL,
    experiments INTEGER NOT NULL,
    runs INTEGER NOT NULL,
    metric_points INTEGER NOT NULL,
    predictions INTEGER NOT NULL,
    prediction_errors INTEGER NOT NULL,
    feedback INTEGER NOT NULL,
    feedback_unmatched INTEGER NOT NULL,
    rejected INTEGER NOT NULL
) STRICT;

-- Rows that the database did not take.

CREATE TABLE rejected_rows (
    id INTEGER PRIMARY KEY,
    table_name TEXT NOT NULL,
    reason TEXT NOT NULL,
    log_no INTEGER NOT NULL DEFAULT 0,
    log_offset INTEGER NOT NULL
) STRICT;

-- For analysts.

CREATE VIEW run_details AS
SELECT
    r.id, r.name AS run, r.display_name, p.name AS parent, e.name AS experiment, m.name AS model,
    v.name AS version, d.name AS dataset, r.started_by, r.code, r.status, r.error,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.started_at / 1e6, 'unixepoch') AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', r.finished_at / 1e6, 'unixepoch') AS finished_at
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
    strftime('%Y-%m-%dT%H:%M:%fZ', p.time / 1e6, 'unixepoch') AS time, p.log_offset
FROM metric_latest s
JOIN metrics p ON p.series_id = s.series_id
LEFT JOIN runs r ON s.owner_kind = 'run' AND r.id = s.owner_id
LEFT JOIN model_versions v ON s.owner_kind = 'version' AND v.id = s.owner_id
LEFT JOIN models m ON m.id = v.model_id;

CREATE VIEW prediction_details AS
SELECT
    p.prediction_id, m.name AS model, v.name AS version,
    strftime('%Y-%m-%dT%H:%M:%fZ', p.time / 1e6, 'unixepoch') AS time,
    p.input, p.output, p.predicted_class, p.predicted_value, p.confidence, p.inference_time_ms,
    p.timings, p.request_id, p.trace_id, p.session_id, p.user_id, p.environment, p.sample_rate,
    p.input_tokens, p.output_tokens, p.time_to_first_token_ms, p.error, p.tags, p.non_finite,
    f.true_class, f.true_value, coalesce(f.correct, p.predicted_class = f.true_class) AS correct,
    f.label, f.score, f.score_name, f.feedback_source,
    strftime('%Y-%m-%dT%H:%M:%fZ', f.time / 1e6, 'unixepoch') AS feedback_time, p.log_offset
FROM predictions p
JOIN models m ON m.id = p.model_id
JOIN model_versions v ON v.id = p.version_id
LEFT JOIN feedback f ON f.log_offset = (
    SELECT g.log_offset FROM feedback g
    WHERE g.prediction_id = p.prediction_id AND (g.model_id = p.model_id OR g.model_id IS NULL)
    ORDER BY g.time DESC, g.log_offset DESC LIMIT 1
);
