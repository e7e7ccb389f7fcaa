//! What holds for every route: keys, limits, errors, bodies, and the OpenAPI document.

use std::net::SocketAddr;

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Method, Request, header},
};
use serde_json::{Value, json};

use crate::app::{App, Reply};

fn request(method: Method, path: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(path)
}

fn empty(builder: axum::http::request::Builder) -> Request<Body> {
    builder.body(Body::empty()).expect("a valid request")
}

#[tokio::test]
async fn a_key_opens_as_bearer_and_as_x_api_key_at_both_mounts() {
    let app = App::start().await;
    for path in ["/agents", "/v1/agents"] {
        for (name, value) in [
            ("authorization", format!("Bearer {}", app.key)),
            ("authorization", format!("bearer  {} ", app.key)),
            ("x-api-key", app.key.clone()),
        ] {
            app.send(empty(request(Method::GET, path).header(name, value))).await.ok();
        }
    }
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_opened() {
    let app = App::start().await;
    let missing = "Missing API key: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'";
    let invalid = "Invalid or missing API key";
    for (name, value, message) in [
        ("x-other", "x".to_owned(), missing),
        ("authorization", "Bearer ".to_owned(), missing),
        ("authorization", "Bearer tb_wrong".to_owned(), invalid),
        ("x-api-key", app.key[..app.key.len() - 1].to_owned(), invalid),
        ("authorization", format!("Basic {}", app.key), "The Authorization header must be 'Bearer KEY'"),
        ("x-api-key", "x".repeat(600), "The API key is malformed"),
    ] {
        let reply = app.send(empty(request(Method::GET, "/agents").header(name, value))).await;
        assert_eq!(reply.failed(401), message);
        assert_eq!(reply.header("www-authenticate"), "Bearer");
    }
    // A key in the query is not taken: it would stand in logs.
    app.send(empty(request(Method::GET, &format!("/agents?api_key={}", app.key)))).await.failed(401);
    app.get("/agents").await.ok();
    let keys = app.database.store.list_keys().await.expect("keys");
    app.database.store.revoke_key(keys[0].id.as_str()).await.expect("revokes");
    assert_eq!(app.get("/agents").await.failed(401), invalid);
}

#[tokio::test]
async fn a_key_opens_no_other_organization() {
    let app = App::start().await;
    let call = |organization: String| {
        let builder = request(Method::GET, "/agents").header("authorization", format!("Bearer {}", app.key));
        app.send(empty(builder.header("x-computer-agents-organization", organization)))
    };
    call(app.database.project.to_string()).await.ok();
    assert_eq!(
        call("org_other".to_owned()).await.failed(403),
        "The API key does not open the organization that was named"
    );
}

#[tokio::test]
async fn a_key_that_is_used_too_often_waits_and_other_keys_do_not() {
    let app = App::start_with(|settings| settings.requests_per_window = 3).await;
    let (_, other) = app.another_project().await;
    for remaining in ["2", "1", "0"] {
        let reply = app.get("/agents").await;
        assert_eq!(reply.header("ratelimit-limit"), "3");
        assert_eq!(reply.header("ratelimit-remaining"), remaining);
        let reset: u64 = reply.header("ratelimit-reset").parse().expect("seconds");
        assert!((1..=900).contains(&reset), "{reset}");
    }
    let reply = app.get("/v1/agents").await;
    assert_eq!(reply.failed(429), "Too many requests: a key may make 3 in 900 seconds");
    let wait: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=300).contains(&wait), "{wait}");
    assert_eq!(reply.header("ratelimit-remaining"), "0");
    app.call_with(&other, Method::GET, "/agents", "").await.ok();
    app.send(empty(request(Method::GET, "/version"))).await.ok();
}

#[tokio::test]
async fn wrong_keys_are_slowed_by_address_and_right_ones_are_not() {
    let app = App::start_with(|settings| settings.failed_logins_per_minute = 2).await;
    let call = |address: &str, key: &str| {
        let address: SocketAddr = address.parse().expect("an address");
        let builder = request(Method::GET, "/agents").header("x-api-key", key).extension(ConnectInfo(address));
        app.send(empty(builder))
    };
    for _ in 0..2 {
        call("[2001:db8::1]:1", "wrong").await.failed(401);
    }
    let reply = call("[2001:db8::ffff:2]:2", "guess").await;
    assert_eq!(reply.failed(429), "Too many requests with a wrong API key from this address");
    assert!(reply.headers.contains_key("retry-after"));
    call("[2001:db8::1]:1", &app.key).await.ok();
    call("192.0.2.1:1", "wrong").await.failed(401);
}

#[tokio::test]
async fn whatever_goes_wrong_has_one_shape() {
    let app = App::start().await;
    assert_eq!(app.get("/nothing/here?x=1").await.failed(404), "Nothing is served at GET /nothing/here");
    assert_eq!(app.get("/v1").await.failed(404), "Nothing is served at GET /v1");
    assert_eq!(app.get("/v1/v1/agents").await.failed(404), "Nothing is served at GET /v1/v1/agents");
    app.get("/agents/").await.failed(404);
    let reply = app.call(Method::PUT, "/v1/agents", "").await;
    assert_eq!(reply.failed(405), "PUT is not possible at /v1/agents");
    let mut allowed: Vec<_> = reply.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    app.call(Method::DELETE, "/health", "").await.failed(405);
    let deep = "[".repeat(10_000);
    for (body, message) in [
        ("{".to_owned(), "The body is not valid JSON: EOF while parsing an object at line 1 column 1"),
        ("[]".to_owned(), "The body must be a JSON object"),
        ("null".to_owned(), "body: invalid type: null, expected an object"),
        (r#"{"name": "a\u0000b", "model": "m"}"#.to_owned(), r"The body has the character NUL (\u0000) in a string"),
        (format!(r#"{{"a": {deep}"#), "The body nests more than 64 levels deep"),
        (
            r#"{"name": "\ud800", "model": "m"}"#.to_owned(),
            "The body is not valid JSON: unexpected end of hex escape at line 1 column 17",
        ),
    ] {
        assert_eq!(app.call(Method::POST, "/agents", body.clone()).await.failed(400), message, "{:.40}", body);
    }
    assert_eq!(app.call(Method::POST, "/agents", &b"{\"name\": \"\xff\", \"model\": \"m\"}"[..]).await.status, 400);
    assert_eq!(app.get("/agents?limit=x").await.failed(400), "limit: must be a whole number");
    assert_eq!(app.get("/agents?limit=-1").await.failed(400), "limit: must not be negative");
    assert_eq!(
        app.get("/agents?offset=99999999999999999999").await.failed(400),
        "offset: must be a whole number that is not so large"
    );
    assert_eq!(app.get("/agents?x=%00").await.failed(400), "The query has the character NUL (%00)");
    app.get("/agents/a%20b").await.failed(400);
    app.get("/agents/%FF").await.failed(400);
    assert_eq!(app.get("/agents/nobody").await.failed(404), "Agent nobody not found");
    let reply = app.call(Method::HEAD, "/agents", "").await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
}

#[tokio::test]
async fn a_body_that_is_too_large_or_too_slow_or_packed_is_refused() {
    let app = App::start_with(|settings| {
        settings.max_body_bytes = 100;
        settings.body_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    let body = json!({"name": "x".repeat(200), "model": "m"}).to_string();
    assert_eq!(app.call(Method::POST, "/agents", body).await.failed(413), "The body is larger than 100 bytes");
    let never = Body::from_stream(futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    app.call(Method::POST, "/agents", never).await.failed(408);
    let packed = request(Method::POST, "/agents")
        .header("authorization", format!("Bearer {}", app.key))
        .header(header::CONTENT_ENCODING, "gzip")
        .body(Body::from("x"))
        .expect("a valid request");
    app.send(packed).await.failed(415);
}

#[tokio::test]
async fn bodies_are_json_whatever_they_are_called() {
    let app = App::start().await;
    let labelled = request(Method::POST, "/v1/agents")
        .header("authorization", format!("Bearer {}", app.key))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(r#"{"name": "a", "model": "m"}"#))
        .expect("a valid request");
    app.send(labelled).await.ok();
}

#[tokio::test]
async fn a_request_has_an_id_and_browsers_may_call() {
    let app = App::start().await;
    let call = |id: &str| app.send(empty(request(Method::GET, "/version").header("x-request-id", id)));
    assert_eq!(call("mine-1").await.header("x-request-id"), "mine-1");
    assert_eq!(call("not fine").await.header("x-request-id").len(), 36);
    assert_eq!(app.get("/nothing").await.header("x-request-id").len(), 36);
    let preflight = request(Method::OPTIONS, "/v1/agents")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "PATCH")
        .header("access-control-request-headers", "authorization,x-computer-agents-organization,last-event-id");
    let reply = app.send(empty(preflight)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), "https://app.example.com");
    assert!(reply.header("access-control-allow-methods").contains("PATCH"));
    assert!(reply.header("access-control-allow-headers").contains("last-event-id"));
}

/// Every operation of the document, with the parts of its path replaced by `part`.
fn operations(document: &Value, part: impl Fn(&str) -> String) -> Vec<(Method, String, bool)> {
    let mut operations = Vec::new();
    for (template, item) in document["paths"].as_object().expect("paths") {
        let mut path = template.clone();
        while let Some((start, end)) = path.find('{').zip(path.find('}')) {
            let value = part(&path[start + 1..end]);
            path.replace_range(start..=end, &value);
        }
        for (method, operation) in item.as_object().expect("an item") {
            let method = method.to_uppercase().parse().expect("a method");
            let is_open = operation["security"] == json!([{}]);
            operations.push((method, path.clone(), is_open));
        }
    }
    operations
}

#[tokio::test]
async fn every_route_of_the_document_is_served_at_both_mounts_and_wants_a_key() {
    let app = App::start_with(|settings| settings.failed_logins_per_minute = 0).await;
    let document = serde_json::to_value(api::openapi()).expect("JSON");
    for (method, path, is_open) in operations(&document, |_| "nothing".to_owned()) {
        for mount in ["", "/v1"] {
            let reply: Reply = app.send(empty(request(method.clone(), &format!("{mount}{path}")))).await;
            let expected = match path.as_str() {
                // Who comes back from signing in needs no key, but a state.
                "/mcp/callback" => 400,
                // And what is sent to a trigger a signature.
                path if path.starts_with("/webhooks/triggers/") => 401,
                _ if is_open => 200,
                _ => 401,
            };
            assert_eq!(reply.status, expected, "{method} {mount}{path}");
        }
    }
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_complete() {
    let app = App::start().await;
    let reply = app.send(empty(request(Method::GET, "/v1/openapi.json"))).await;
    let document = reply.ok();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    for name in ["Agent", "Environment", "FileEntry", "Error", "List_Agent"] {
        assert!(schemas.contains_key(name), "{name} of {:?}", schemas.keys());
    }
    // Every reference leads somewhere, and nothing is left of names that only our code knows.
    let text = reply.text();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("the end of a reference");
        assert!(schemas.contains_key(name), "{name}");
    }
    assert!(!text.contains("{*"));
    let mut ids = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("an item") {
            let at = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{at} has a summary");
            assert!(operation["tags"][0].is_string(), "{at} has a tag");
            ids.push(operation["operationId"].as_str().expect("an id").to_owned());
            for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array().unwrap_or_else(|| panic!("{at} has parameters"));
                let count = parameters.iter().filter(|p| p["name"] == parameter && p["in"] == "path").count();
                assert_eq!(count, 1, "{at} has {parameter}");
            }
        }
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}
