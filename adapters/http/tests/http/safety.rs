//! What keeps a server on a developer's machine safe: from web pages, from strangers, and from names made to deceive.

use std::net::SocketAddr;
use std::sync::Arc;

use modelog_engine::Engine;
use modelog_http::{HttpConfig, HttpError, Server, Services, hash_token};
use modelog_sql::{SqlConfig, SqlStore};
use serde_json::json;

use crate::harness::{Keeper, TestServer, answer, refused, send, token_file};

const EVENT: &str = r#"{"type":"EventLogged","name":"a"}"#;

#[tokio::test]
async fn a_rebound_name_is_refused_on_every_route() {
    let server = TestServer::start_with(|config| {
        config.allowed_hosts = vec!["modelog.example".to_owned()];
    })
    .await;
    for path in [
        "/v1/models",
        "/v1/stats",
        "/version",
        "/metrics",
        "/openapi.json",
        "/nowhere",
    ] {
        let request = server.get(path).header("host", "evil.example");
        refused(request, 403, "host_not_allowed").await;
    }
    let post = server.post("/v1/events", EVENT);
    refused(
        post.header("host", "evil.example:7070"),
        403,
        "host_not_allowed",
    )
    .await;
    for host in ["localhost", "modelog.example:1234", "[::1]", "10.0.0.1"] {
        let request = server.get("/version").header("host", host);
        assert_eq!(answer(request).await.0, 200, "{host}");
    }
    for path in ["/healthz", "/readyz"] {
        let request = server.get(path).header("host", "10-0-0-7.default.pod");
        assert_eq!(answer(request).await.0, 200, "{path}");
    }
    assert_eq!(server.tail(), 0);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let server = TestServer::start().await;
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
    ] {
        refused(
            server.post("/v1/events", EVENT).header(name, value),
            403,
            "cross_site",
        )
        .await;
        refused(
            server.delete("/v1/models/m").header(name, value),
            403,
            "cross_site",
        )
        .await;
        refused(
            server.get("/v1/models").header(name, value),
            403,
            "cross_site",
        )
        .await;
    }
    let own = format!("http://{}", server.addr);
    let request = server.post("/v1/events", EVENT).header("origin", own);
    let response = send(request).await;
    assert_eq!(response.status(), 200);
    assert!(
        response
            .headers()
            .keys()
            .all(|name| !name.as_str().starts_with("access-control")),
        "CORS is off"
    );
    // A preflight gets no permission.
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, server.url("/v1/events"))
        .header("origin", "http://evil.example")
        .header("access-control-request-method", "POST");
    refused(preflight, 403, "cross_site").await;
    assert_eq!(server.tail(), 1);
}

#[tokio::test]
async fn requests_without_one_clear_host_are_refused() {
    let server = TestServer::start().await;
    for head in [
        "GET /version HTTP/1.1\r\n",
        "GET /version HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n",
        "GET /version HTTP/1.1\r\nhost: a b\r\n",
        "GET /version HTTP/1.1\r\nhost: user@localhost\r\n",
        "GET http://evil.example/version HTTP/1.1\r\nhost: localhost\r\n",
    ] {
        let answer = server.raw(format!("{head}connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn tokens_allow_what_their_scopes_say() {
    let directory = tempfile::tempdir().unwrap();
    let lines = format!(
        "# test\ningest {} # i\nread {}\nadmin {}\n",
        hash_token("secret-i"),
        hash_token("secret-r"),
        hash_token("secret-a")
    );
    let file = token_file(directory.path(), &lines);
    let server = TestServer::start_with(|config| config.token_file = Some(file)).await;
    let with = |request: reqwest::RequestBuilder, token: &str| request.bearer_auth(token);

    let problem = refused(server.post("/v1/events", EVENT), 401, "unauthorized").await;
    assert!(problem["detail"].as_str().unwrap().contains("`ingest`"));
    refused(
        with(server.post("/v1/events", EVENT), "wrong"),
        401,
        "unauthorized",
    )
    .await;
    refused(
        with(server.post("/v1/events", EVENT), "secret-r"),
        403,
        "forbidden",
    )
    .await;
    assert_eq!(
        answer(with(server.post("/v1/events", EVENT), "secret-i"))
            .await
            .0,
        200
    );
    assert_eq!(
        answer(with(server.post("/v1/events", EVENT), "secret-a"))
            .await
            .0,
        200
    );
    for path in ["/v1/models", "/v1/stats", "/metrics"] {
        refused(server.get(path), 401, "unauthorized").await;
        refused(with(server.get(path), "secret-i"), 403, "forbidden").await;
        for token in ["secret-r", "secret-a"] {
            let status = send(with(server.get(path), token)).await.status();
            assert_eq!(status, 200, "{path}");
        }
    }
    let rebuild = || {
        server
            .client
            .post(server.url("/v1/projections/sql/rebuild"))
    };
    refused(rebuild(), 401, "unauthorized").await;
    refused(with(rebuild(), "secret-r"), 403, "forbidden").await;
    refused(with(rebuild(), "secret-i"), 403, "forbidden").await;
    let response = send(server.get("/v1/models")).await;
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    // Anyone may ask for these; who shows a wrong token learns so even there.
    for path in ["/healthz", "/readyz", "/version", "/openapi.json"] {
        assert_eq!(send(server.get(path)).await.status(), 200, "{path}");
    }
    refused(with(server.get("/version"), "wrong"), 401, "unauthorized").await;
    // A token stands for a Host, but not for an Origin.
    let named = with(server.get("/v1/models"), "secret-r").header("host", "ml.internal");
    assert_eq!(answer(named).await.0, 200);
    let named = server.get("/version").header("host", "ml.internal");
    refused(named, 403, "host_not_allowed").await;
    let foreign =
        with(server.get("/v1/models"), "secret-r").header("origin", "http://evil.example");
    refused(foreign, 403, "cross_site").await;
    // Neither secrets nor hashes are in any answer.
    let text = send(with(server.get("/v1/models"), "secret-x"))
        .await
        .text()
        .await
        .unwrap();
    assert!(!text.contains("secret-x"), "{text}");
    assert_eq!(server.tail(), 2);
}

async fn bind(config: HttpConfig) -> Result<Server, HttpError> {
    let data = tempfile::tempdir().unwrap();
    let engine = Engine::open(data.path()).unwrap();
    let store = SqlStore::new(SqlConfig {
        directory: data.path().to_owned(),
        ..SqlConfig::default()
    })
    .unwrap();
    let services = Services {
        engine,
        reads: Arc::new(store.reads()),
        history: None,
        metrics: Arc::new(String::new),
        sources: Arc::new(Vec::new),
        maintenance: Arc::new(Keeper::default()),
    };
    Server::bind(config, services).await
}

#[tokio::test]
async fn listening_beyond_loopback_needs_tokens_and_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let file = token_file(directory.path(), &format!("read {}", hash_token("r")));
    let open = |token_file, insecure| HttpConfig {
        listen: SocketAddr::from(([0, 0, 0, 0], 0)),
        token_file,
        insecure,
        ..HttpConfig::default()
    };
    let message = |outcome: Result<Server, HttpError>| {
        let error = outcome.unwrap_err();
        assert!(error.is_configuration());
        error.to_string()
    };
    let error = message(bind(open(None, false)).await);
    assert!(error.contains("http.token_file"), "{error}");
    let error = message(bind(open(None, true)).await);
    assert!(error.contains("http.token_file"), "{error}");
    let error = message(bind(open(Some(file.clone()), false)).await);
    assert!(error.contains("http.insecure"), "{error}");
    assert!(bind(open(Some(file.clone()), true)).await.is_ok());

    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = message(bind(open(Some(file), true)).await);
    assert!(error.contains("chmod 600"), "{error}");
    let absent = directory.path().join("absent");
    let error = message(bind(open(Some(absent), true)).await);
    assert!(error.contains("absent"), "{error}");
    let wrong = token_file(directory.path(), "read\n");
    let error = message(bind(open(Some(wrong), true)).await);
    assert!(error.contains("line 1"), "{error}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let server = TestServer::start().await;
    let outcome = bind(HttpConfig {
        listen: server.addr,
        ..HttpConfig::default()
    })
    .await;
    let error = outcome.unwrap_err();
    assert!(!error.is_configuration());
    assert!(
        error.to_string().contains(&server.addr.to_string()),
        "{error}"
    );
}

#[tokio::test]
async fn impossible_settings_are_named() {
    for (change, name) in [
        (
            (|config| config.connections = 0) as fn(&mut HttpConfig),
            "http.connections",
        ),
        (|config| config.body_bytes = 0, "http.body_bytes"),
        (|config| config.bodies_bytes = 1, "http.bodies_bytes"),
        (
            |config| config.allowed_hosts = vec!["http://x".to_owned()],
            "http.allowed_hosts",
        ),
        (
            |config| config.allowed_hosts = vec!["x:7070".to_owned()],
            "http.allowed_hosts",
        ),
    ] {
        let mut config = HttpConfig::default();
        change(&mut config);
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    HttpConfig::default().check().unwrap();
}

#[tokio::test]
async fn names_are_decoded_once_and_never_walk() {
    let server = TestServer::start().await;
    // `%2F` belongs to the name; `%252F` is the text `%2F`; encoded dots are dots and lead nowhere.
    for (path, model) in [
        ("team%2Fresnet", "team/resnet"),
        ("team%252Fresnet", "team%2Fresnet"),
        ("..%2F..%2Fetc%2Fpasswd", "../../etc/passwd"),
        ("a+b", "a+b"),
        ("%C3%BC%20", "ü "),
        ("a@b", "a@b"),
    ] {
        let request = format!("/v1/models/{path}/versions");
        let (status, reply) = answer(server.post(&request, r#"{"version":"v"}"#)).await;
        assert_eq!((status, &reply["model"]), (201, &json!(model)), "{path}");
    }
    let tail = server.tail();
    let raw = |path: &str| {
        server.raw(format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             content-length: 15\r\nconnection: close\r\n\r\n{{\"version\":\"v\"}}"
        ))
    };
    for (path, status) in [
        ("/v1/models/%ff/versions", 400),
        ("/v1/models/a%00b/versions", 400),
        ("/v1/models/a%0Ab/versions", 400),
        ("/v1/models//versions", 400),
        ("/v1/models/../runs", 404),
        ("/v1/models/a/../../../etc/passwd", 404),
        ("/v1/models/%2e%2e/runs", 404),
        ("//v1/models/m/versions", 404),
        ("/v1/models/m/versions/", 404),
    ] {
        let answer = raw(path).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("application/problem+json"),
            "{path}: {answer}"
        );
    }
    assert_eq!(server.tail(), tail);
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let server = TestServer::start().await;
    let problem = refused(server.get("/v2/models"), 404, "no_such_route").await;
    assert!(problem["detail"].as_str().unwrap().contains("/v2/models"));
    let request = server.delete("/v1/events");
    let response = send(request).await;
    let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(
        ["GET", "HEAD", "POST"]
            .iter()
            .all(|method| allowed.contains(method)),
        "{allowed}"
    );
    refused(server.delete("/v1/events"), 405, "method_not_allowed").await;
    let script = "/<script>alert(1)</script>";
    let response = send(server.get(script)).await;
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
}
