//! `config check` and `config show`, and what a wrong configuration does to every command.

use super::{CONFIG, Home};

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let home = Home::new();
    home.write(
        "modelog.toml",
        "[log]\nsegment_byte = \"1MiB\"\n[http]\nlisten = \"nowhere\"\n",
    );
    let mut command = home.command(&["config", "check", "--config", "modelog.toml"]);
    command.env("MODELOG_SQL__READERS", "many");
    let done = super::finish(command.spawn().unwrap()).fails(
        CONFIG,
        &[
            "3 problems",
            "modelog.toml:2: `log.segment_byte` is not a setting; did you mean `log.segment_bytes`?",
            "modelog.toml:4: `http.listen` must be an IP address",
            "MODELOG_SQL__READERS: `sql.readers` must be a whole number",
        ],
    );
    assert_eq!(
        done.err.matches("segment_byte`").count(),
        1,
        "once: {done:?}"
    );
    assert!(done.out.is_empty());
    // No command starts with it.
    for command in [
        &["serve"][..],
        &["verify"],
        &["import", "x"],
        &["config", "show"],
    ] {
        home.run(&[command, &["--config", "modelog.toml"]].concat())
            .fails(CONFIG, &["2 problems"]);
    }
    home.run(&["config", "check", "--config", "none.toml"])
        .fails(CONFIG, &["none.toml"]);
    home.run(&["serve", "--listen", "0.0.0.0:0"])
        .fails(CONFIG, &["--listen", "token_file"]);
    home.run(&["serve", "--log-format", "xml"])
        .fails(CONFIG, &["--log-format", "\"json\""]);
    home.run(&["config", "check"]).ok();
}

#[test]
fn what_is_shown_is_a_configuration_again() {
    let home = Home::new();
    home.write(
        "modelog.toml",
        "data = \"elsewhere\"\n[log]\ndedupe_window = 7\n[prometheus]\nrun_metrics = [\"a \\\"b\\\"\"]\n",
    );
    let shown = home
        .run(&["config", "show", "--config", "modelog.toml"])
        .ok()
        .out;
    assert!(shown.contains("dedupe_window = 7"), "{shown}");
    home.write("shown.toml", &shown);
    let again = home
        .run(&["config", "show", "--config", "shown.toml"])
        .ok()
        .out;
    assert_eq!(again, shown);
    let origins = home
        .run(&[
            "config",
            "show",
            "--origin",
            "--config",
            "modelog.toml",
            "--data",
            "here",
        ])
        .ok()
        .out;
    assert!(origins.contains("data = \"here\"  # --data"), "{origins}");
    assert!(
        origins.contains("dedupe_window = 7  # modelog.toml:3"),
        "{origins}"
    );
    assert!(origins.contains("insecure = false  # default"), "{origins}");
    let json = home
        .run(&[
            "config",
            "show",
            "--origin",
            "--format",
            "json",
            "--config",
            "modelog.toml",
        ])
        .ok()
        .json();
    let window = json
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["setting"] == "log.dedupe_window")
        .unwrap();
    assert_eq!(window["value"], "7");
    assert_eq!(window["origin"], "modelog.toml:3");
}
