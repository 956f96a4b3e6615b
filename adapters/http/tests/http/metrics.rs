//! What is counted, as a scrape shows it.

use std::sync::Arc;

use modelog_prometheus::{Exporter, PrometheusConfig};

use crate::harness::{TestServer, answer, send};

/// The value of a series.
fn value(text: &str, series: &str) -> f64 {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
        .unwrap_or_else(|| panic!("no {series} in\n{text}"))
}

#[tokio::test]
async fn requests_are_counted_by_route_and_never_by_what_clients_make_up() {
    let exporter = Arc::new(Exporter::install(PrometheusConfig::default()).unwrap());
    let server = TestServer::start().await;
    answer(server.post("/v1/models/a%2Fb/versions", r#"{"version":"v-1"}"#)).await;
    answer(server.post("/v1/models/a%2Fb/versions", "[1]")).await;
    send(server.get("/nowhere/at-all")).await;
    send(
        server
            .client
            .request("BREW".parse().unwrap(), server.url("/version")),
    )
    .await;
    send(server.get("/version").header("host", "evil.example")).await;
    let text = exporter.render(&server.engine);
    let route = r#"route="POST /v1/models/{model}/versions""#;
    let requests = "modelog_http_requests_total";
    for (labels, at_least) in [
        (format!(r#"{{{route},code="201"}}"#), 1.0),
        (format!(r#"{{{route},code="400"}}"#), 1.0),
        (r#"{route="unmatched",code="404"}"#.to_owned(), 1.0),
        (r#"{route="unmatched",code="405"}"#.to_owned(), 1.0),
        (r#"{route="GET /version",code="403"}"#.to_owned(), 1.0),
    ] {
        // Other tests in this process count too.
        let found = value(&text, &format!("{requests}{labels}"));
        assert!(found >= at_least, "{labels}: {found}");
    }
    let seconds = "modelog_http_request_duration_seconds";
    assert!(value(&text, &format!(r#"{seconds}_count{{{route},code="201"}}"#)) >= 1.0);
    assert!(
        value(
            &text,
            r#"modelog_ingest_events_total{source="http",kind="ModelVersionCreated"}"#
        ) >= 1.0
    );
    for made_up in ["a%2Fb", "a/b", "nowhere", "BREW", "evil"] {
        assert!(!text.contains(made_up), "{made_up} in\n{text}");
    }
}

#[tokio::test]
async fn the_scrape_is_what_the_exporter_renders() {
    let server = TestServer::start().await;
    let response = send(server.get("/metrics")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    assert_eq!(
        response.text().await.unwrap(),
        "modelog_build_info{version=\"0\"} 1\n"
    );
}
