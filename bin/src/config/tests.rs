//! Layers, problems, and the sample file.

use std::collections::BTreeMap;

use super::*;

const SAMPLE: &str = include_str!("../../../config/modelog.toml");

fn build_from(
    toml: &str,
    environment: &[(&str, &str)],
    flags: Vec<Flag>,
) -> Result<Loaded, ConfigError> {
    let environment = environment
        .iter()
        .map(|(name, value)| (OsString::from(name), OsString::from(value)));
    build(
        Some(("modelog.toml".into(), toml.to_owned())),
        environment,
        flags,
    )
}

fn problems(toml: &str, environment: &[(&str, &str)]) -> Vec<String> {
    match build_from(toml, environment, Vec::new()) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(error) => panic!("{error}"),
    }
}

fn by_name(loaded: &Loaded) -> BTreeMap<&str, &Shown> {
    loaded
        .shown
        .iter()
        .map(|shown| (shown.setting.as_str(), shown))
        .collect()
}

#[test]
fn the_sample_file_documents_every_setting_with_its_default() {
    let sample = build_from(SAMPLE, &[], Vec::new()).unwrap();
    let defaults = build(None, std::iter::empty(), Vec::new()).unwrap();
    let (sample, defaults) = (by_name(&sample), by_name(&defaults));
    assert_eq!(sample.len(), defaults.len());
    for (setting, default) in defaults {
        let documented = sample[setting];
        assert_eq!(documented.value, default.value, "{setting}");
        let name = setting.rsplit('.').next().unwrap();
        match default.value {
            Some(_) => assert!(
                matches!(documented.origin, Origin::File { .. }),
                "{setting} is missing"
            ),
            None => assert!(
                SAMPLE.contains(&format!("\n# {name} = ")),
                "{setting} is missing"
            ),
        }
    }
    // Every setting has a comment right above it.
    let lines: Vec<_> = SAMPLE.lines().collect();
    for pair in lines.windows(2) {
        if pair[1].contains(" = ") && !pair[1].starts_with("# ") {
            assert!(pair[0].starts_with("# "), "{} is not explained", pair[1]);
        }
    }
}

#[test]
fn later_layers_win_setting_by_setting() {
    let toml = "[log]\nsegment_bytes = \"1MiB\"\ndedupe_window = 5\npad_groups = true\n[logging]\nfilter = \"warn\"";
    let environment = [
        ("MODELOG_LOG__SEGMENT_BYTES", "2MiB"),
        ("MODELOG_LOG__PAD_GROUPS", "false"),
        ("MODELOG_PROMETHEUS__RUN_METRICS", "loss, val_*"),
        ("MODELOG_DATA", "elsewhere"),
        ("MODELOG_HTTP__CONNECTIONS", "7"),
        // Not ours: Kubernetes says so about a service called modelog.
        ("MODELOG_PORT", "tcp://10.0.0.1:7070"),
        ("MODELOG_SERVICE_HOST", "10.0.0.1"),
        ("PATH", "/bin"),
    ];
    let flags = vec![Flag {
        setting: "http.listen",
        flag: "--listen",
        value: "localhost:80".into(),
    }];
    let loaded = build_from(toml, &environment, flags).unwrap();
    let Settings {
        data,
        log,
        http,
        prometheus,
        logging,
        ..
    } = &loaded.settings;
    assert_eq!(log.segment_bytes, 2 << 20);
    assert_eq!(log.dedupe_window, 5);
    assert!(!log.pad_groups);
    assert_eq!(log.group_bytes_max, 2 << 20);
    assert_eq!(prometheus.run_metrics, ["loss", "val_*"]);
    assert_eq!(http.connections, 7);
    assert_eq!(http.listen.to_string(), "127.0.0.1:80");
    assert_eq!(data, Path::new("elsewhere"));
    assert_eq!(logging.filter, "warn");
    let shown = by_name(&loaded);
    let origin = |setting| shown[setting].origin.to_string();
    assert_eq!(origin("log.segment_bytes"), "MODELOG_LOG__SEGMENT_BYTES");
    assert_eq!(origin("log.dedupe_window"), "modelog.toml:3");
    assert_eq!(origin("logging.filter"), "modelog.toml:6");
    assert_eq!(origin("http.listen"), "--listen");
    assert_eq!(origin("log.reserve_bytes"), "default");
}

#[test]
fn paths_lie_in_the_data_directory() {
    let loaded = build_from(
        "data = \"/d\"\n[http]\ntoken_file = \"tokens\"",
        &[],
        Vec::new(),
    )
    .unwrap();
    let http = &loaded.settings.http;
    assert_eq!(http.token_file.as_deref(), Some(Path::new("/d/tokens")));
    assert_eq!(
        http.control_socket.as_deref(),
        Some(Path::new("/d/control.sock"))
    );
    assert_eq!(loaded.settings.sql.directory, Path::new("/d"));
    assert_eq!(loaded.settings.parquet.path, Path::new("/d/parquet"));
    assert_eq!(loaded.settings.backup.path, None);
    let backup = "data = \"/d\"\n[backup]\npath = \"../b\"\n[parquet]\npath = \"/big/parquet\"";
    let loaded = build_from(backup, &[], Vec::new()).unwrap().settings;
    assert_eq!(loaded.backup.path.as_deref(), Some(Path::new("/d/../b")));
    assert_eq!(loaded.parquet.path, Path::new("/big/parquet"));
    let loaded = build_from("[http]\ntoken_file = \"/etc/tokens\"", &[], Vec::new()).unwrap();
    assert_eq!(
        loaded.settings.http.token_file.as_deref(),
        Some(Path::new("/etc/tokens"))
    );
}

#[test]
fn all_problems_are_told_at_once_with_their_places() {
    let toml = "\
red_from = \"sql\"
[log]
segment_byte = \"1MiB\"
group_bytes_max = 2.5
dedupe_window = -1

[http]
listen = \"0.0.0.0\"
depth = \"deep\"
[sql]
predictions_keep = \"a while\"
[postgres]
url = \"x\"
";
    let environment = [
        ("MODELOG_LOG__SEGMENT_BYTES", "lots"),
        ("MODELOG_LOGGING__FILTER", "info,=,"),
        ("MODELOG_HTP__LISTEN", "127.0.0.1:1"),
    ];
    let mut found = problems(toml, &environment);
    let mut expected = [
        "modelog.toml:1: `red_from` is not a setting; did you mean `read_from`?",
        "modelog.toml:3: `log.segment_byte` is not a setting; did you mean `log.segment_bytes`?",
        "modelog.toml:4: `log.group_bytes_max` must be a size such as \"128MiB\", not a fraction",
        "modelog.toml:5: `log.dedupe_window` must be a whole number that is not negative, not -1",
        "modelog.toml:8: `http.listen` must be an IP address with a port, such as \"127.0.0.1:7070\", not \"0.0.0.0\"",
        "modelog.toml:9: `http.depth` must be a whole number that is not negative, not \"deep\"",
        "modelog.toml:11: `sql.predictions_keep` must be a duration such as \"30d\", or \"forever\", not \"a while\"",
        "modelog.toml:12: `postgres` is not a setting; there are data, read_from, log, http, kafka, memory, redis, sql, parquet, backup, prometheus, logging",
        "MODELOG_LOG__SEGMENT_BYTES: `log.segment_bytes` must be a size such as \"128MiB\", not \"lots\"",
        "MODELOG_HTP__LISTEN: `htp` is not a setting; did you mean `http`?",
    ]
    .map(str::to_owned)
    .to_vec();
    found.sort();
    let (filter, rest): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|problem| problem.contains("logging.filter"));
    assert_eq!(filter.len(), 1);
    expected.sort();
    assert_eq!(rest, expected);
}

#[test]
fn what_the_parts_refuse_is_told_with_its_place() {
    assert_eq!(
        problems("[log]\nsegment_bytes = \"1KiB\"", &[]),
        ["modelog.toml:2: `log.segment_bytes` must be at least 16 KiB"]
    );
    let open = problems("[http]\nlisten = \"0.0.0.0:7070\"", &[]);
    assert!(
        open.len() == 1 && open[0].starts_with("modelog.toml:2: `http.listen` is 0.0.0.0:7070"),
        "{open:?}"
    );
    let toml = "[http]\nlisten = \"0.0.0.0:7070\"\ntoken_file = \"t\"\ninsecure = true";
    assert_eq!(problems(toml, &[]), [""; 0]);
    let url = problems("[sql]\nurl = \"postgres://me:secret@db\"", &[]);
    assert!(
        url.len() == 1 && url[0].starts_with("modelog.toml:2: `sql.url` cannot be used: "),
        "{url:?}"
    );
    assert!(!url[0].contains("secret"));
}

#[test]
fn what_could_not_be_read_is_one_problem() {
    let found = problems("[[kafka]]\nbrokers = [\"a:1\"]\ntopics = \"t\"\n", &[]);
    let said = "modelog.toml:3: `kafka[0].topics` must be a list of texts such as [\"a\", \"b\"], not \"t\"";
    assert_eq!(found, [said]);
}

#[test]
fn a_depth_that_would_not_be_kept_is_refused() {
    let found = problems("[http]\ndepth = 1025", &[]);
    assert_eq!(found, ["modelog.toml:2: `http.depth` must be at most 1024"]);
    assert_eq!(problems("[http]\ndepth = 1024", &[]), [""; 0]);
}

#[test]
fn what_sqlite_cannot_take_is_refused() {
    for (setting, value) in [
        ("readers", "0"),
        ("readers", "1025"),
        ("readers", "4294967295"),
        ("busy_timeout", "\"25d\""),
        ("busy_timeout", "\"200000000d\""),
    ] {
        let found = problems(&format!("[sql]\n{setting} = {value}"), &[]);
        assert_eq!(found.len(), 1, "{setting} = {value}");
        let place = format!("modelog.toml:2: `sql.{setting}` must be ");
        assert!(found[0].starts_with(&place), "{}", found[0]);
    }
    let largest = "[sql]\nreaders = 1024\nbusy_timeout = \"24d\"";
    assert_eq!(problems(largest, &[]), [""; 0]);
}

#[test]
fn files_that_cannot_be_kept_as_said_are_refused() {
    for (section, line, said) in [
        (
            "parquet",
            "target_file_bytes = \"63KiB\"",
            "must be at least 64KiB",
        ),
        ("parquet", "max_delay = \"999ms\"", "must be at least 1s"),
        ("parquet", "path = \".\"", "a directory of its own"),
        ("parquet", "path = \"../d\"", "a directory of its own"),
        ("parquet", "path = \"/\"", "a directory of its own"),
        ("parquet", "path = \"log\"", "must not be in `log`"),
        (
            "parquet",
            "path = \"x/../sqlite/p\"",
            "must not be in `sqlite`",
        ),
        ("parquet", "path = \"\"", "must be a path"),
        ("backup", "every = \"0s\"", "must be at least 1s"),
        ("backup", "keep = 0", "must be at least 1"),
        ("backup", "keep = 4294967296", "must be a whole number"),
        (
            "backup",
            "path = \"backups\"",
            "outside of the data directory",
        ),
        ("backup", "path = \"/d\"", "outside of the data directory"),
        ("backup", "path = \"/\"", "outside of the data directory"),
        ("log", "keep_segments = 24", "must be a duration"),
    ] {
        let found = problems(&format!("data = \"/d\"\n[{section}]\n{line}"), &[]);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        let setting = line.split(' ').next().unwrap();
        let place = format!("modelog.toml:3: `{section}.{setting}` ");
        assert!(found[0].starts_with(&place), "{}", found[0]);
        assert!(found[0].contains(said), "{}", found[0]);
    }
    let beside = "data = \"/d\"\n[backup]\npath = \"/d2\"\n[log]\nkeep_segments = \"0s\"";
    assert_eq!(problems(beside, &[]), [""; 0]);
}

#[test]
fn text_that_is_no_toml_is_told_with_its_lines() {
    let found = problems("data = \"a\"\ndata = \"b\"\n[log\nx = \n", &[]);
    assert!(found.len() >= 2, "{found:?}");
    assert!(found[0].starts_with("modelog.toml:2: "), "{found:?}");
    assert!(
        found
            .iter()
            .any(|problem| problem.starts_with("modelog.toml:3: ")),
        "{found:?}"
    );
}

#[test]
fn a_section_and_a_value_do_not_mix() {
    assert_eq!(
        problems("log = 5", &[]),
        ["modelog.toml:1: `log` is a section, not 5"]
    );
    assert_eq!(
        problems("[data]\nx = 1", &[]),
        ["modelog.toml:1: `data` must be a path, not a section"]
    );
}

#[test]
fn a_file_that_is_not_there() {
    let error = load(Some(Path::new("/nowhere/modelog.toml")), Vec::new()).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("/nowhere/modelog.toml"));
}

/// The sections that there may be any number of, as the sample shows them.
fn sample_section(name: &str) -> String {
    let from = SAMPLE
        .lines()
        .skip_while(|line| *line != format!("# [[{name}]]"));
    let section = from.take_while(|line| line.starts_with('#'));
    section
        .map(|line| line.strip_prefix("# ").unwrap_or_default())
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_sample_file_shows_a_source_with_every_setting() {
    let sample = sample_section("kafka");
    let shown = build_from(&sample, &[], Vec::new()).unwrap();
    let needed = "[[kafka]]\nbrokers = [\"localhost:9092\"]\ntopics = [\"ml-events\"]";
    let least = build_from(needed, &[], Vec::new()).unwrap();
    let of_kafka = |loaded: &Loaded| {
        let settings = loaded.shown.iter();
        let settings = settings.filter(|shown| shown.setting.starts_with("kafka[0]."));
        let settings = settings.filter(|shown| !shown.setting.contains(".properties."));
        settings
            .map(|shown| (shown.setting.clone(), shown.value.clone()))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(of_kafka(&shown), of_kafka(&least), "defaults");
    for (setting, value) in of_kafka(&least) {
        let name = setting.strip_prefix("kafka[0].").unwrap();
        let mark = if value.is_some() { "" } else { "# " };
        let line = format!("\n{mark}{name} = ");
        assert!(sample.contains(&line), "{name} is missing");
    }
}

#[test]
fn sources_are_sections_of_their_own() {
    let toml = "[[kafka]]
brokers = [\"a:1\", \"b:2\"]
topics = [\"^ml-.*\"]
start = \"2026-11-22T17:00:00Z\"
group_instance_id = \"\"
properties = { \"sasl.password\" = \"hush\", \"fetch.wait.max.ms\" = 7 }
[[kafka]]
brokers = [\"c:3\"]
topics = [\"other\"]
properties.security.protocol = \"ssl\"
";
    let loaded = build_from(toml, &[], Vec::new()).unwrap();
    let [first, second] = &loaded.settings.kafka[..] else {
        panic!("two sources")
    };
    assert_eq!(first.brokers, ["a:1", "b:2"]);
    assert_eq!(first.properties["fetch.wait.max.ms"], "7");
    assert_eq!(second.properties["security.protocol"], "ssl");
    let shown = by_name(&loaded);
    let value = |setting: &str| shown[setting].value.clone().unwrap();
    assert_eq!(value("kafka[0].properties.sasl.password"), "\"…\"");
    assert_eq!(value("kafka[0].start"), "\"2026-11-22T17:00:00Z\"");
    assert_eq!(value("kafka[1].group_instance_id"), "\"auto\"");
}

#[test]
fn what_is_wrong_with_a_source_is_said_with_its_place() {
    let toml = "[[kafka]]
brokers = [\"a:1\"]
topics = [\"t\"]
on_gap = \"jump\"
[[kafka]]
topics = [\"t\"]
bootstrap = \"a:1\"
[[kafka]]
brokers = [\"a:1\"]
topics = [\"t\"]
properties = { \"enable.auto.commit\" = true, \"fetch.maximum\" = [1] }
";
    let said = problems(toml, &[]).join("\n");
    for expected in [
        "modelog.toml:4: `kafka[0].on_gap` must be \"halt\" or \"skip\", not \"jump\"",
        "`kafka[1].brokers` must name at least one broker",
        "modelog.toml:7: `kafka[1].bootstrap` is not a setting",
        "modelog.toml:11: `kafka[2].properties.enable.auto.commit` cannot be set",
        "`kafka[2].properties.fetch.maximum` must be text, a number, true or false, not a list",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    for (toml, variable) in [
        ("kafka = 7", None),
        ("[kafka]", None),
        ("", Some("MODELOG_KAFKA__BROKERS")),
    ] {
        let environment: Vec<_> = variable.map(|name| (name, "a:1")).into_iter().collect();
        let said = problems(toml, &environment).join("\n");
        assert!(
            said.contains("each written [[kafka]] in the file"),
            "{said}"
        );
    }
}
