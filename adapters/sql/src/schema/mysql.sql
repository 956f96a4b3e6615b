-- What Modelog keeps in MySQL or MariaDB, in a database of its own. The prose that explains it is in `schema/mod.rs`.
-- `{collation}` is the server's name for: by bytes, without padding.

CREATE TABLE schema_version (
    version BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation} COMMENT='Modelog';

CREATE TABLE checkpoint (
    log_no BIGINT PRIMARY KEY,
    log_id VARCHAR(64) NOT NULL,
    epoch BIGINT NOT NULL,
    log_offset BIGINT NOT NULL,
    fold_version BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

-- Entities. A row is there from the moment its name is in the log; what no event has told yet is null.

CREATE TABLE models (
    id BIGINT PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    architecture LONGTEXT,
    framework LONGTEXT,
    task_type LONGTEXT,
    description LONGTEXT,
    created_at DATETIME(6),
    deleted_at DATETIME(6),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX models_by_name ON models (name);

CREATE TABLE model_versions (
    id BIGINT PRIMARY KEY,
    model_id BIGINT NOT NULL,
    name VARCHAR(500) NOT NULL,
    checkpoint_path LONGTEXT,
    config LONGTEXT,
    signature LONGTEXT,
    digest LONGTEXT,
    run_id BIGINT,
    description LONGTEXT,
    created_at DATETIME(6),
    deleted_at DATETIME(6),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX model_versions_by_name ON model_versions (model_id, name);
CREATE INDEX model_versions_by_model ON model_versions (model_id);
CREATE TABLE model_aliases (
    model_id BIGINT NOT NULL,
    alias VARCHAR(500) NOT NULL,
    version_id BIGINT NOT NULL,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (model_id, alias)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE INDEX model_aliases_by_version ON model_aliases (version_id);

CREATE TABLE datasets (
    id BIGINT PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    version LONGTEXT,
    uri LONGTEXT,
    split_info LONGTEXT,
    row_count BIGINT,
    digest LONGTEXT,
    data_schema LONGTEXT,
    created_at DATETIME(6),
    deleted_at DATETIME(6),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX datasets_by_name ON datasets (name);

CREATE TABLE experiments (
    id BIGINT PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    description LONGTEXT,
    created_at DATETIME(6),
    deleted_at DATETIME(6),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX experiments_by_name ON experiments (name);

CREATE TABLE runs (
    id BIGINT PRIMARY KEY,
    name VARCHAR(500) NOT NULL,
    display_name LONGTEXT,
    parent_id BIGINT,
    experiment_id BIGINT,
    model_id BIGINT,
    version_id BIGINT,
    dataset_id BIGINT,
    started_by LONGTEXT,
    code LONGTEXT,
    has_started BOOLEAN NOT NULL DEFAULT FALSE,
    status VARCHAR(20),
    error LONGTEXT,
    started_at DATETIME(6),
    finished_at DATETIME(6),
    deleted_at DATETIME(6),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX runs_by_name ON runs (name);
CREATE INDEX runs_by_start ON runs (started_at);
CREATE INDEX runs_by_experiment ON runs (experiment_id, started_at);
CREATE INDEX runs_by_model ON runs (model_id, started_at);
CREATE INDEX runs_by_status ON runs (status, started_at);

CREATE TABLE run_params (
    run_id BIGINT NOT NULL,
    param_key LONGTEXT NOT NULL,
    param_value LONGTEXT NOT NULL,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    place BIGINT NOT NULL,
    key_digest BINARY(32) AS (unhex(sha2(param_key, 256))) STORED,
    UNIQUE KEY run_params_once (run_id, key_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

CREATE TABLE run_datasets (
    run_id BIGINT NOT NULL,
    dataset_id BIGINT NOT NULL,
    version LONGTEXT,
    role LONGTEXT,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    key_digest BINARY(32) AS
        (unhex(sha2(concat(coalesce(concat(length(version), '=', version), ''), '/', coalesce(concat('=', role), '')), 256))) STORED
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX run_datasets_once ON run_datasets (run_id, dataset_id, key_digest);

CREATE TABLE artifacts (
    run_id BIGINT NOT NULL,
    version_id BIGINT NOT NULL,
    uri LONGTEXT NOT NULL,
    name LONGTEXT,
    media_type LONGTEXT,
    size_bytes BIGINT,
    digest LONGTEXT,
    metadata LONGTEXT,
    time DATETIME(6) NOT NULL,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    key_digest BINARY(32) AS (unhex(sha2(uri, 256))) STORED
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX artifacts_once ON artifacts (run_id, version_id, key_digest);
CREATE INDEX artifacts_by_version ON artifacts (version_id);

CREATE TABLE tags (
    entity_kind VARCHAR(20) NOT NULL,
    entity_id BIGINT NOT NULL,
    tag_key LONGTEXT NOT NULL,
    tag_value LONGTEXT NOT NULL,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    place BIGINT NOT NULL,
    key_digest BINARY(32) AS (unhex(sha2(tag_key, 256))) STORED,
    UNIQUE KEY tags_once (entity_kind, entity_id, key_digest)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

-- Metrics: a series in short, and its points.

CREATE TABLE metric_latest (
    series_id BIGINT PRIMARY KEY,
    owner_kind VARCHAR(20) NOT NULL,
    owner_id BIGINT NOT NULL,
    name VARCHAR(250) NOT NULL,
    split LONGTEXT,
    points BIGINT NOT NULL,
    last_step BIGINT NOT NULL,
    last_time DATETIME(6) NOT NULL,
    last_value DOUBLE,
    last_non_finite VARCHAR(20),
    last_epoch DOUBLE,
    last_epoch_non_finite VARCHAR(20),
    last_log_offset BIGINT NOT NULL,
    min_value DOUBLE,
    max_value DOUBLE,
    log_no BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE INDEX metric_latest_by_name ON metric_latest (owner_kind, owner_id, name);

CREATE TABLE metrics (
    series_id BIGINT NOT NULL,
    step BIGINT NOT NULL,
    time DATETIME(6) NOT NULL,
    value_key BIGINT NOT NULL,
    value DOUBLE,
    non_finite VARCHAR(20),
    epoch DOUBLE,
    epoch_non_finite VARCHAR(20),
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL,
    PRIMARY KEY (series_id, step, time, value_key)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

-- Predictions and what came back on them.

CREATE TABLE predictions (
    log_offset BIGINT PRIMARY KEY,
    log_no BIGINT NOT NULL DEFAULT 0,
    model_id BIGINT NOT NULL,
    version_id BIGINT NOT NULL,
    prediction_id VARCHAR(500) NOT NULL,
    time DATETIME(6) NOT NULL,
    append_time DATETIME(6) NOT NULL,
    complete BOOLEAN NOT NULL,
    input LONGTEXT,
    output LONGTEXT,
    predicted_class LONGTEXT,
    predicted_value DOUBLE,
    confidence DOUBLE,
    inference_time_ms DOUBLE,
    timings LONGTEXT,
    request_id LONGTEXT,
    trace_id LONGTEXT,
    session_id LONGTEXT,
    user_id LONGTEXT,
    environment LONGTEXT,
    sample_rate DOUBLE,
    input_tokens BIGINT,
    output_tokens BIGINT,
    time_to_first_token_ms DOUBLE,
    error LONGTEXT,
    tags LONGTEXT,
    non_finite LONGTEXT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE UNIQUE INDEX predictions_by_id ON predictions (prediction_id, model_id);
CREATE INDEX predictions_by_version ON predictions (version_id, time);

CREATE TABLE feedback (
    log_offset BIGINT PRIMARY KEY,
    log_no BIGINT NOT NULL DEFAULT 0,
    prediction_id VARCHAR(500) NOT NULL,
    model_id BIGINT,
    version_id BIGINT,
    time DATETIME(6) NOT NULL,
    append_time DATETIME(6) NOT NULL,
    true_class LONGTEXT,
    true_value DOUBLE,
    correct BOOLEAN,
    label LONGTEXT,
    score DOUBLE,
    score_name LONGTEXT,
    feedback_source LONGTEXT,
    non_finite LONGTEXT
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};
CREATE INDEX feedback_by_prediction ON feedback (prediction_id, time);

-- The engine's statistics, published.

CREATE TABLE statistics (
    version_id BIGINT PRIMARY KEY,
    log_no BIGINT NOT NULL DEFAULT 0,
    predictions BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    first_time DATETIME(6),
    last_time DATETIME(6),
    latency_ms_mean DOUBLE,
    latency_ms_p50 DOUBLE,
    latency_ms_p95 DOUBLE,
    latency_ms_p99 DOUBLE,
    confidence_mean DOUBLE,
    labelled BIGINT NOT NULL,
    correct BIGINT NOT NULL,
    state LONGBLOB NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

CREATE TABLE statistics_totals (
    log_no BIGINT PRIMARY KEY,
    as_of_offset BIGINT NOT NULL,
    events BIGINT NOT NULL,
    models BIGINT NOT NULL,
    versions BIGINT NOT NULL,
    datasets BIGINT NOT NULL,
    experiments BIGINT NOT NULL,
    runs BIGINT NOT NULL,
    metric_points BIGINT NOT NULL,
    predictions BIGINT NOT NULL,
    prediction_errors BIGINT NOT NULL,
    feedback BIGINT NOT NULL,
    feedback_unmatched BIGINT NOT NULL,
    rejected BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

-- Rows that the database did not take.

CREATE TABLE rejected_rows (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    table_name VARCHAR(64) NOT NULL,
    reason LONGTEXT NOT NULL,
    log_no BIGINT NOT NULL DEFAULT 0,
    log_offset BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4 COLLATE={collation};

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
    p.input, p.output, p.predicted_class, p.predicted_value, p.confidence, p.inference_time_ms,
    p.timings, p.request_id, p.trace_id, p.session_id, p.user_id, p.environment, p.sample_rate,
    p.input_tokens, p.output_tokens, p.time_to_first_token_ms, p.error, p.tags, p.non_finite,
    f.true_class, f.true_value, coalesce(f.correct, p.predicted_class = f.true_class) AS correct,
    f.label, f.score, f.score_name, f.feedback_source,
    f.time AS feedback_time, p.log_offset
FROM predictions p
JOIN models m ON m.id = p.model_id
JOIN model_versions v ON v.id = p.version_id
LEFT JOIN feedback f ON f.log_offset = (
    SELECT g.log_offset FROM feedback g
    WHERE g.prediction_id = p.prediction_id AND (g.model_id = p.model_id OR g.model_id IS NULL)
    ORDER BY g.time DESC, g.log_offset DESC LIMIT 1
);
