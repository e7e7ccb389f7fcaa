//! What the server tells without a key.

use axum::{body::Body, http::Request};
use serde_json::json;

use crate::app::App;

fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).expect("a valid request")
}

#[tokio::test]
async fn a_server_whose_parts_answer_is_healthy_and_ready() {
    let app = App::start().await;
    for path in ["/health", "/v1/health"] {
        let health = app.send(get(path)).await.ok();
        assert_eq!(health["status"], "healthy");
        assert!(health["uptime"].is_u64(), "{health}");
        for check in ["database", "docker", "memory"] {
            assert_eq!(health["checks"][check]["status"], "healthy", "{health}");
        }
    }
    assert_eq!(app.send(get("/ready")).await.ok(), json!({"ready": true, "status": "ready"}));
    app.api.stopping.cancel();
    assert_eq!(app.send(get("/ready")).await.json(), json!({"ready": false, "status": "stopping"}));
}

#[tokio::test]
async fn without_its_database_a_server_is_unhealthy_and_says_so() {
    let app = App::start().await;
    app.database.store.close().await;
    let reply = app.send(get("/health")).await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["status"], "unhealthy");
    assert_eq!(app.send(get("/ready")).await.status, 503);
    let reply = app.get("/agents").await;
    assert_eq!(reply.failed(503), "The database is not reachable right now; try again");
    assert_eq!(reply.header("retry-after"), "2");
}

#[tokio::test]
async fn metrics_are_json_unless_text_is_asked_for_by_name() {
    let app = App::start().await;
    let any = Request::get("/metrics").header("accept", "*/*").body(Body::empty()).expect("a valid request");
    insta::assert_json_snapshot!(app.send(any).await.ok());
    let text = Request::get("/v1/metrics").header("accept", "text/plain").body(Body::empty()).expect("a valid request");
    let reply = app.send(text).await;
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert!(reply.text().starts_with("process_metric 1\n"));
    assert!(reply.text().contains("atelier_runs{status=\"completed\"} 0\n"));
}

#[tokio::test]
async fn the_version_has_the_keys_of_the_wire() {
    let app = App::start().await;
    insta::assert_json_snapshot!(app.send(get("/version")).await.ok());
}

#[tokio::test]
async fn the_page_of_the_documentation_loads_nothing_from_elsewhere() {
    let app = App::start().await;
    for path in ["/docs", "/v1/docs"] {
        let reply = app.send(get(path)).await;
        assert_eq!(reply.header("content-type"), "text/html; charset=utf-8");
        assert!(reply.header("content-security-policy").starts_with("default-src 'none';"));
        assert!(!reply.text().contains("://"), "it names an address");
        assert!(!reply.text().contains("src="), "it loads something");
    }
}
