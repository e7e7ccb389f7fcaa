//! Limits on requests, over all servers of an installation.

use api::Api;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app::App;

/// Another server of the same installation.
async fn another_server(app: &App) -> Router {
    let store = app.database.another_server("node_b").await;
    let settings = (*app.api.settings).clone();
    api::router(Api::new(store, app.sandboxes.clone(), settings, CancellationToken::new(), String::new))
}

async fn ask(router: &Router, key: &str) -> StatusCode {
    let request = Request::builder().uri("/agents").header("x-api-key", key).body(Body::empty()).expect("a request");
    router.clone().oneshot(request).await.expect("the router cannot fail").status()
}

/// Asks each server this often, with several requests under way at once, and gives how many were let pass.
async fn passed(routers: [&Router; 2], key: &str, each: usize) -> usize {
    let mut passed = 0;
    for _ in 0..each / 10 {
        let asked = routers.iter().flat_map(|router| (0..10).map(|_| ask(router, key)));
        let statuses = futures::future::join_all(asked).await;
        assert!(statuses.iter().all(|status| matches!(status.as_u16(), 200 | 429)), "{statuses:?}");
        passed += statuses.iter().filter(|status| status.is_success()).count();
    }
    passed
}

#[tokio::test]
async fn two_servers_let_a_key_pass_as_often_as_one() {
    for (limit, each, portion) in [(30, 40, 1), (400, 300, 8)] {
        let app = App::start_with(|settings| {
            settings.requests_per_window = limit;
            // What comes back during the test is less than one.
            settings.window = std::time::Duration::from_secs(30 * 24 * 3600);
        })
        .await;
        let other = another_server(&app).await;
        let passed = passed([&app.router, &other], &app.key, each).await;
        let limit = limit as usize;
        assert!(passed <= limit && passed + 2 * portion >= limit, "{passed} of {limit}");
        println!("two servers, a limit of {limit}: {} asked, {passed} passed", 2 * each);
        let pool = app.database.pool().await;
        let left: f64 =
            sqlx::query_scalar("select tokens from request_buckets").fetch_one(&pool).await.expect("one row");
        assert!(left < 1.0, "{left}");
    }
}

#[tokio::test]
async fn a_project_has_a_limit_for_all_its_keys() {
    let app = App::start_with(|settings| settings.requests_per_project = 5).await;
    let (_, second) = app.database.store.create_key(&app.database.project, "second", None).await.expect("a key");
    let second = secrecy::ExposeSecret::expose_secret(&second).to_owned();
    for key in [&app.key, &second, &app.key, &second, &app.key] {
        assert_eq!(ask(&app.router, key).await, 200);
    }
    let reply = app.get("/agents").await;
    assert_eq!(reply.failed(429), "Too many requests: a project may make 5 in 900 seconds");
    assert_eq!((reply.header("ratelimit-limit"), reply.header("ratelimit-remaining")), ("5", "0"));
    assert_eq!(ask(&app.router, &second).await, 429);
    let (_, other) = app.another_project().await;
    assert_eq!(ask(&app.router, &other).await, 200);
}
