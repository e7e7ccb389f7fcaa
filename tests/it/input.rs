//! Bad input on every route: a sentence, never a crash.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use reqwest::{Method, header};
use serde_json::{Value, json};
use system_tests::{Answer, World};

/// The methods a document can name.
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// A route of the document: its path, and the methods it is served with.
struct Route {
    path: String,
    methods: BTreeSet<String>,
}

async fn routes(world: &World) -> Vec<Route> {
    let document = world.get("/openapi.json").await;
    let paths = document["paths"].as_object().expect("paths").iter();
    let routes: Vec<Route> = paths
        .map(|(path, operations)| {
            let methods = METHODS.iter().filter(|method| operations.get(**method).is_some());
            Route { path: path.clone(), methods: methods.map(|method| (*method).to_owned()).collect() }
        })
        .collect();
    assert!(routes.len() > 25, "every served route is in the document: {}", routes.len());
    routes
}

fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let fields = |value: Value| {
        let names = [
            "name",
            "model",
            "content",
            "task",
            "messages",
            "environmentId",
            "agentId",
            "title",
            "status",
            "path",
            "sourcePath",
            "destPath",
            "runtimes",
            "packages",
            "environmentVariables",
            "secrets",
            "mcpServers",
            "metadata",
            "isDefault",
            "internetAccess",
            "instructions",
            "enabledSkills",
            "id",
            "stream",
            "envVars",
            "attachments",
        ];
        json!(names.iter().map(|name| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>())
            .to_string()
    };
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(10_000), close.repeat(10_000)).into_bytes();
    vec![
        ("nothing", Vec::new()),
        ("no JSON", b"name=x&y".to_vec()),
        ("half", b"{\"name\": \"x".to_vec()),
        ("an array", b"[]".to_vec()),
        ("a string", b"\"x\"".to_vec()),
        ("null", b"null".to_vec()),
        ("a number", b"1e999".to_vec()),
        ("NUL", b"{\"name\":\"a\\u0000b\",\"content\":\"a\\u0000b\",\"model\":\"a\\u0000\",\"path\":\"a\\u0000\",\"sourcePath\":\"\\u0000\",\"destPath\":\"\\u0000\",\"title\":\"\\u0000\"}".to_vec()),
        ("a raw NUL", b"{\"name\":\"a\0b\"}".to_vec()),
        ("invalid UTF-8", b"{\"name\":\"\xff\xfe\",\"content\":\"\xc3\x28\"}".to_vec()),
        ("a lone surrogate", b"{\"name\":\"\\ud800\",\"content\":\"\\udfff\",\"model\":\"\\ud800\"}".to_vec()),
        ("numbers", fields(json!(5)).into_bytes()),
        ("arrays", fields(json!([[{}]])).into_bytes()),
        ("objects", fields(json!({ "a": null })).into_bytes()),
        ("nulls", fields(Value::Null).into_bytes()),
        ("empty texts", fields(json!("")).into_bytes()),
        ("ids of others", fields(json!("../../etc/passwd")).into_bytes()),
        ("long texts", fields(json!("x".repeat(100_000))).into_bytes()),
        ("doubled keys", b"{\"name\":\"a\",\"name\":5,\"content\":\"a\",\"content\":[]}".to_vec()),
        ("deep arrays", deep("[", "]")),
        ("deep objects", deep("{\"a\":", "}")),
        ("deep in a field", [&b"{\"name\":\"x\",\"metadata\":"[..], &deep("{\"a\":[", "]}")[..], b"}"].concat()),
    ]
}

/// Values for what stands in a path.
const PARTS: [&str; 12] = [
    "nothing",
    "thread_0198c0f2a7d07d1c9f7b1f5b5b0c2a11",
    "..%2F..%2Fetc%2Fpasswd",
    "%00",
    "a%00b",
    "%FF%FE",
    "%20",
    "'%20or%201=1--",
    "%E2%80%A8",
    "0",
    "-1",
    "%25%32%65",
];

/// Queries of lists.
const QUERIES: [&str; 13] = [
    "limit=x",
    "limit=-1",
    "limit=99999999999999999999",
    "offset=-5",
    "after=x&before=%00",
    "order=sideways",
    "stream=maybe",
    "depth=x&path=%00",
    "path=../..",
    "status=%FF",
    "createdAfter=never",
    "limit=1&limit=2",
    "&&=&=",
];

/// How many requests to one route are under way together.
const AT_ONCE: usize = 8;

/// Puts `part` where the path has a parameter; the id of what exists where there is one and `part` says so.
fn fill(path: &str, ids: &[(&str, &str)], part: Option<&str>) -> String {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (_, after) = after.split_once('}').expect("a parameter ends");
        filled.push_str(before);
        let known = ids.iter().find(|(prefix, _)| before.ends_with(prefix)).map(|(_, id)| *id);
        filled.push_str(part.or(known).unwrap_or("nothing"));
        rest = after;
    }
    filled + rest
}

/// Adds to `wrong` what an answer must not be.
fn check(wrong: &mut Vec<String>, what: &str, answer: &Answer) {
    let is_served = answer.status < 400;
    let is_error = serde_json::from_str::<Value>(&answer.text)
        .is_ok_and(|body| body["error"].is_string() && body["message"].is_string());
    if answer.status >= 500 && answer.status != 501 {
        wrong.push(format!("{what}: {} {}", answer.status, answer.text));
    } else if !(is_served || is_error && answer.content_type.starts_with("application/json")) {
        wrong.push(format!("{what}: not an error object: {} {:?} {}", answer.status, answer.content_type, answer.text));
    }
}

async fn answer(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("the server answers");
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    Answer { status, content_type, text: response.text().await.expect("the answer is whole") }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_on_any_route_is_a_client_error_with_a_sentence() {
    let world = World::start().await;
    let environment = world.environment(false).await;
    let thread = world.thread(&environment).await;
    let agent = world.post("/v1/agents", json!({ "name": "a", "model": "m" })).await["agent"]["id"].clone();
    let agent = agent.as_str().expect("an id");
    let ids = [("/environments/", environment.as_str()), ("/threads/", &thread), ("/agents/", agent)];
    let mut wrong = Vec::new();
    let mut count = 0;
    let bodies = bodies();
    for route in routes(&world).await {
        for name in METHODS {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).expect("a method");
            if !route.methods.contains(name) {
                // A path below `/files/` is the name of a file for the methods that files have.
                let got = answer(world.request(method, &fill(&route.path, &ids, None))).await;
                check(&mut wrong, &format!("{name} {}", route.path), &got);
                if !route.path.contains("/files") && got.status != 405 {
                    wrong.push(format!("{name} {} is not served, but answers {}", route.path, got.status));
                }
                continue;
            }
            let mut requests = Vec::new();
            if route.path.contains('{') {
                for part in PARTS {
                    let request = world.request(method.clone(), &fill(&route.path, &ids, Some(part))).json(&json!({}));
                    requests.push((format!("{name} {} with {part}", route.path), request));
                }
            }
            let filled = fill(&route.path, &ids, None);
            if name == "get" {
                for query in QUERIES {
                    let path = format!("{filled}?{query}");
                    requests.push((format!("{name} {path}"), world.request(Method::GET, &path)));
                }
            }
            // What exists must not be deleted by the first of many tries; bodies on DELETE are not read anyway.
            let has_body = !matches!(name, "get" | "delete") && !route.path.ends_with("/start");
            for (what, body) in bodies.iter().filter(|_| has_body) {
                for content_type in
                    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
                {
                    let request = world.request(method.clone(), &filled);
                    let request = request.header(header::CONTENT_TYPE, content_type).body(body.clone());
                    requests.push((format!("{name} {} with {what} as {content_type}", route.path), request));
                }
            }
            let began = Instant::now();
            let answers = requests.into_iter().map(async |(what, request)| (what, answer(request).await));
            let answers: Vec<_> = stream::iter(answers).buffer_unordered(AT_ONCE).collect().await;
            count += answers.len();
            for (what, got) in answers {
                check(&mut wrong, &what, &got);
            }
            if began.elapsed() > Duration::from_secs(5) {
                println!("{name} {} takes {:?}", route.path, began.elapsed());
            }
        }
    }
    println!("{count} requests");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    // Nothing that was there is lost.
    world.get(&format!("/v1/threads/{thread}")).await;
    world.get(&format!("/v1/environments/{environment}")).await;
    world.get(&format!("/v1/agents/{agent}")).await;
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_too_large_or_a_path_that_is_not_served_is_told_as_an_error_object() {
    let world = World::start().await;
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(11 << 20));
    let mut wrong = Vec::new();
    for path in ["/v1/agents", "/v1/environments", "/v1/threads", "/threads"] {
        let got = answer(world.request(Method::POST, path).body(huge.clone())).await;
        check(&mut wrong, path, &got);
        assert_eq!(got.status, 413, "{path}: {}", got.text);
    }
    let long = format!("/v1/threads/{}", "x".repeat(20_000));
    for path in ["/nothing", "/v1", "/v1/v1/agents", "/v1/agents/", "/%00", "/v1/%FF", "//"] {
        let got = answer(world.request(Method::GET, path)).await;
        check(&mut wrong, path, &got);
        assert_eq!(got.status, 404, "{path}: {}", got.text);
    }
    let got = answer(world.request(Method::GET, &long)).await;
    check(&mut wrong, "a long path", &got);
    assert!(matches!(got.status, 400 | 404 | 414), "{}: {}", got.status, got.text);
    for key in ["", "tb_", "x", "\u{e9}", &"k".repeat(8000)] {
        let request = world.request(Method::GET, "/v1/agents");
        // Adding a second header of the name is what a smuggler does.
        let got = answer(request.header("x-api-key", key).header(header::AUTHORIZATION, format!("Bearer {key}"))).await;
        check(&mut wrong, "a wrong key", &got);
    }
    for method in ["BREW", "TRACE", "PROPFIND", "CONNECT"] {
        if let Ok(method) = Method::from_bytes(method.as_bytes())
            && method != Method::CONNECT
        {
            let got = answer(world.request(method.clone(), "/v1/agents")).await;
            check(&mut wrong, method.as_str(), &got);
            assert_eq!(got.status, 405, "{method}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    world.finish().await;
}
