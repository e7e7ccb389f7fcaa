//! Secrets of environments, one at a time.

use axum::http::Method;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::app::App;

/// Gives what tools would be given.
async fn opened(app: &App, environment: &domain::EnvironmentId) -> Vec<(String, String)> {
    let opened = app.database.store.open_secrets(environment).await.expect("opens");
    opened.into_iter().map(|(key, value)| (key, value.expose_secret().to_owned())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn a_secret_is_set_listed_replaced_and_deleted_and_never_given_back() {
    let app = App::start().await;
    let environment = app.environment().await;
    let path = format!("/v1/environments/{environment}/secrets");
    assert_eq!(app.get(&path).await.ok(), json!({"object": "list", "data": [], "has_more": false, "total_count": 0}));

    let mut said = Vec::new();
    let set = app.post(&path, json!({"key": "TOKEN", "value": "canary-one"})).await;
    assert_eq!(
        (set.status.as_u16(), &set.ok()),
        (201, &json!({"success": true, "key": "TOKEN", "message": "The secret is set"}))
    );
    said.push(set);
    said.push(app.post(&path, json!({"key": "OTHER", "value": "canary-two"})).await);
    // Set again is replaced.
    said.push(app.post(&path, json!({"key": "OTHER", "value": "canary-three"})).await);
    assert_eq!(opened(&app, &environment).await, pairs(&[("OTHER", "canary-three"), ("TOKEN", "canary-one")]));
    let listed = app.get(&path).await;
    assert_eq!(listed.ok()["data"], json!([{"key": "OTHER", "hasValue": true}, {"key": "TOKEN", "hasValue": true}]));
    assert_eq!(listed.ok()["total_count"], 2);
    said.push(listed);
    let whole = app.get(&format!("/v1/environments/{environment}")).await;
    assert_eq!(whole.ok()["environment"]["secrets"][1], json!({"key": "TOKEN", "value": "********", "hasValue": true}));
    said.push(whole);

    said.push(app.put(&format!("{path}/TOKEN"), json!({"value": "canary-four"})).await);
    said.push(app.delete(&format!("{path}/OTHER")).await);
    assert_eq!(opened(&app, &environment).await, pairs(&[("TOKEN", "canary-four")]));
    for missing in [
        app.delete(&format!("{path}/OTHER")).await,
        app.put(&format!("{path}/OTHER"), json!({"value": "canary-five"})).await,
    ] {
        assert_eq!(missing.failed(404), "Secret OTHER not found");
        said.push(missing);
    }

    // What is wrong is told by its name, never by its value.
    for (body, message) in [
        (json!({"key": "A-B", "value": "canary-six"}), "key: must be letters"),
        (json!({"key": "A", "value": ["canary-seven"]}), "value: invalid type: sequence, expected a string"),
        (json!({"key": "A", "value": 42_424_242}), "value: invalid type: integer, expected a string"),
        (json!({"key": ["canary"], "value": "x"}), "key: invalid type: sequence, expected a string"),
        (json!({"key": "A"}), "Missing required field: value"),
        (json!({"key": "A", "value": "********"}), "value: must be the value itself, not its mask"),
        (json!({"key": "A", "value": "canary".repeat(30_000)}), "value: must have at most"),
    ] {
        let refused = app.post(&path, body).await;
        assert!(refused.failed(400).starts_with(message), "{}", refused.text());
        said.push(refused);
    }
    let refused = app.patch(&format!("/v1/environments/{environment}"), json!({"secrets": ["canary-eight"]})).await;
    assert_eq!(refused.failed(400), "secrets[0]: invalid type: string, expected an object");
    said.push(refused);
    for reply in &said {
        assert!(!reply.text().contains("canary") && !reply.text().contains("42424242"), "{}", reply.text());
    }
    assert_eq!(opened(&app, &environment).await, pairs(&[("TOKEN", "canary-four")]));
}

#[tokio::test]
async fn another_project_sees_sets_and_deletes_no_secret() {
    let app = App::start().await;
    let environment = app.environment().await;
    let path = format!("/v1/environments/{environment}/secrets");
    app.post(&path, json!({"key": "TOKEN", "value": "ours"})).await.ok();
    let (_, theirs) = app.another_project().await;
    for (method, path, body) in [
        (Method::GET, path.clone(), String::new()),
        (Method::POST, path.clone(), json!({"key": "TOKEN", "value": "theirs"}).to_string()),
        (Method::PUT, format!("{path}/TOKEN"), json!({"value": "theirs"}).to_string()),
        (Method::DELETE, format!("{path}/TOKEN"), String::new()),
    ] {
        let reply = app.call_with(&theirs, method, &path, body).await;
        assert_eq!(reply.failed(404), format!("Environment {environment} not found"));
    }
    assert_eq!(opened(&app, &environment).await, pairs(&[("TOKEN", "ours")]));
}

#[tokio::test]
async fn no_more_secrets_than_a_process_can_be_given() {
    let app = App::start().await;
    let environment = app.environment().await;
    let path = format!("/v1/environments/{environment}/secrets");
    let large = "x".repeat(125 * 1024);
    for number in 0..8 {
        app.post(&path, json!({"key": format!("LARGE_{number}"), "value": large})).await.ok();
    }
    let refused = app.post(&path, json!({"key": "ONE_MORE", "value": large})).await;
    assert_eq!(refused.failed(400), "An environment's secrets have at most 1048576 bytes in all");
    assert_eq!(opened(&app, &environment).await.len(), 8);
    app.put(&format!("{path}/LARGE_0"), json!({"value": "small"})).await.ok();
    app.post(&path, json!({"key": "ONE_MORE", "value": large})).await.ok();
}
