//! `/admin/users`: whose keys are whose, and that somebody who is deactivated has none that opens anything.

use axum::http::Method;
use domain::scope::{Scope, Scopes};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::keys::NewKey;

use crate::app::{App, Reply};

/// An app, and an administrator's key.
async fn app() -> (App, String) {
    let app = App::start().await;
    let new = NewKey { scopes: Scopes::new([Scope::Admin]), ..NewKey::named("admin") };
    let (_, admin) = app.database.store.create_key_with(&app.database.project, new).await.expect("a key");
    (app, admin.expose_secret().to_owned())
}

async fn call(app: &App, key: &str, method: Method, path: &str, body: Value) -> Reply {
    app.call_with(key, method, path, body.to_string()).await
}

#[tokio::test]
async fn a_user_is_made_by_a_key_or_by_hand_and_loses_all_keys_at_once() {
    let (app, admin) = app().await;
    let ann = json!({"id": "ann", "name": "Ann", "email": "ann@example.com", "metadata": {"team": 1}});
    let made = call(&app, &admin, Method::POST, "/admin/users", ann.clone()).await;
    assert_eq!((made.status.as_u16(), &made.ok()["user"]["email"]), (201, &json!("ann@example.com")));
    call(&app, &admin, Method::POST, "/admin/users", ann).await.failed(409);
    let nameless = call(&app, &admin, Method::POST, "/admin/users", json!({"name": "Somebody"})).await.ok();
    assert!(nameless["user"]["id"].as_str().is_some_and(|id| id.starts_with("user_")), "{nameless}");

    let mut keys = Vec::new();
    for (name, user) in [("laptop", "ann"), ("phone", "ann"), ("ci", "bob@example.com")] {
        let made = app.post("/api-keys", json!({"name": name, "userId": user})).await.ok();
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    app.call_with(&keys[0], Method::POST, "/agents", json!({"name": "a", "model": "m"}).to_string()).await.ok();
    let listed = call(&app, &admin, Method::GET, "/admin/users", json!({})).await.ok();
    let keys_of = |id: &str| {
        let users = listed["users"].as_array().expect("users");
        users.iter().find(|user| user["id"] == id).map(|user| user["activeKeys"].clone())
    };
    assert_eq!((keys_of("ann"), keys_of("bob@example.com")), (Some(json!(2)), Some(json!(1))));
    assert_eq!((&listed["data"], &listed["total_count"]), (&listed["users"], &json!(3)));
    let ann = call(&app, &admin, Method::GET, "/v1/admin/users/ann", json!({})).await.ok();
    assert!(ann["user"]["lastLoginAt"].is_string(), "{ann}");

    let off =
        call(&app, &admin, Method::PATCH, "/admin/users/ann", json!({"isActive": false, "email": null})).await.ok();
    assert_eq!(
        (&off["user"]["isActive"], &off["user"]["activeKeys"], &off["user"]["email"]),
        (&json!(false), &json!(0), &Value::Null)
    );
    for (key, status) in [(&keys[0], 401), (&keys[1], 401), (&keys[2], 200)] {
        assert_eq!(app.call_with(key, Method::GET, "/agents", "").await.status.as_u16(), status);
    }
    // No way back to a key, for as long as that is so.
    let refused = app.post("/api-keys", json!({"name": "again", "userId": "ann"})).await.failed(400);
    assert!(refused.contains("ann is deactivated"), "{refused}");
    let keys_of_ann = call(&app, &admin, Method::GET, "/admin/keys?userId=ann", json!({})).await.ok();
    let path = format!("/admin/keys/{}", keys_of_ann["data"][0]["id"].as_str().expect("an id"));
    call(&app, &admin, Method::PATCH, &path, json!({"isActive": true})).await.failed(400);
    assert_eq!(call(&app, &admin, Method::GET, "/admin/users?isActive=false", json!({})).await.ok()["total_count"], 1);
    call(&app, &admin, Method::PATCH, "/admin/users/ann", json!({"isActive": true})).await.ok();
    assert_eq!(app.call_with(&keys[0], Method::GET, "/agents", "").await.status.as_u16(), 401, "old keys stay revoked");
    call(&app, &admin, Method::PATCH, &path, json!({"isActive": true})).await.ok();

    // What was done with a key stays its user's.
    let log = call(&app, &admin, Method::GET, "/admin/audit-log?userId=ann", json!({})).await.ok();
    assert_eq!(
        (&log["total_count"], &log["data"][0]["route"], &log["data"][0]["userId"]),
        (&json!(1), &json!("/agents"), &json!("ann"))
    );
    call(&app, &admin, Method::DELETE, "/admin/users/ann", json!({})).await.ok();
    call(&app, &admin, Method::GET, "/admin/users/ann", json!({})).await.failed(404);
    let log = call(&app, &admin, Method::GET, "/admin/audit-log?userId=ann", json!({})).await.ok();
    assert_eq!(log["total_count"], 1);
    let keys_of_ann = call(&app, &admin, Method::GET, "/admin/keys?userId=ann&isActive=true", json!({})).await.ok();
    assert_eq!(keys_of_ann["total_count"], 0);
}

#[tokio::test]
async fn only_administrators_know_people_and_none_can_lock_themselves_out() {
    let (app, admin) = app().await;
    let own = json!({"name": "own", "userId": "me", "scopes": ["admin"]});
    let own = call(&app, &admin, Method::POST, "/admin/keys", own).await.ok();
    let own = own["key"].as_str().expect("a key");
    for (method, body) in [(Method::PATCH, json!({"isActive": false})), (Method::DELETE, json!({}))] {
        let message = call(&app, own, method, "/admin/users/me", body).await.failed(400);
        assert!(message.contains("this user's"), "{message}");
    }
    for (body, field) in [
        (json!({"name": ""}), "name"),
        (json!({"name": "x", "id": " "}), "id"),
        (json!({"name": "x", "email": "x"}), "email"),
    ] {
        let reply = call(&app, &admin, Method::POST, "/admin/users", body).await;
        reply.failed(400);
        assert_eq!(reply.json()["details"][0]["field"], field);
    }
    call(&app, &admin, Method::PATCH, "/admin/users/me", json!({"name": null})).await.failed(400);
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        call(&app, &admin, method, "/admin/users/a%00b", json!({})).await.failed(404);
    }
    call(&app, &admin, Method::PATCH, "/admin/users/nobody", json!({"name": "x"})).await.failed(404);
    app.post("/api-keys", json!({"name": "k", "userId": ""})).await.failed(400);
    for (method, path) in
        [(Method::GET, ""), (Method::POST, ""), (Method::GET, "/me"), (Method::PATCH, "/me"), (Method::DELETE, "/me")]
    {
        app.call(method, &format!("/admin/users{path}"), "{}").await.failed(403);
    }
}

#[tokio::test]
async fn a_deactivation_and_new_keys_at_once_leave_no_key_that_opens_something() {
    let (app, admin) = app().await;
    for round in 0..10 {
        let user = format!("user{round}");
        let first = app.post("/api-keys", json!({"name": "k", "userId": user})).await.ok();
        let path = format!("/admin/users/{user}");
        let id = format!("/admin/keys/{}", first["id"].as_str().expect("an id"));
        let (off, _, _, _) = tokio::join!(
            call(&app, &admin, Method::PATCH, &path, json!({"isActive": false})),
            app.post("/api-keys", json!({"name": "k", "userId": user})),
            app.post("/api-keys", json!({"name": "k", "userId": user})),
            call(&app, &admin, Method::PATCH, &id, json!({"isActive": true})),
        );
        off.ok();
        let left =
            call(&app, &admin, Method::GET, &format!("/admin/keys?userId={user}&isActive=true"), json!({})).await;
        assert_eq!(left.ok()["total_count"], 0, "round {round}");
    }
}
