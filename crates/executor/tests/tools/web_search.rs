//! WebSearch: what each engine is asked, strictly, and what comes of answers as the engines give them.

use domain::{
    MicroUsd,
    event::{Detail, SearchHit},
};
use executor::tools::{
    Call, Context, Outcome, ToolError, Tools,
    web::{
        self,
        search::{Domains, Engine, Search},
    },
};
use sandbox::{Network, Options, Sandboxes, Spec};
use serde_json::{Value, json, value::RawValue};
use tokio_util::sync::CancellationToken;

use crate::recorded::Recorded;

async fn context(engine: Engine, domains: Domains) -> Context {
    let sandboxes = Sandboxes::connect(Options::default()).await.expect("an engine");
    let environment = domain::EnvironmentId::generate();
    let spec = Spec { environment, image: None, built: None, network: Network::Open, limits: None, env: Vec::new() };
    let search = Search::new(engine, domains, 0.005).expect("a client");
    let web = web::Client::new(Vec::new()).expect("a client");
    Context::new(sandboxes, spec, "run_test", Vec::new(), web).with_search(Some(search))
}

async fn search(cx: &Context, input: Value) -> Result<Outcome, String> {
    let (input, stop) = (RawValue::from_string(input.to_string()).expect("JSON"), CancellationToken::new());
    let call = Call { name: "WebSearch", input: &input, stop: &stop, show: &|_| {} };
    match Tools::new(true).with_search(true).call(cx, call).await {
        Ok(outcome) => Ok(outcome),
        Err(ToolError::ForModel(text)) => Err(text),
        Err(err) => panic!("{err:?}"),
    }
}

fn hit(title: &str, url: &str, date: Option<&str>) -> SearchHit {
    SearchHit { title: title.into(), url: url.into(), date: date.map(str::to_owned) }
}

const SEARXNG: &str = r#"{"query": "rust async", "number_of_results": 0, "results": [
    {"url": "https://rust-lang.example/async", "title": "Async <b>Rust</b>", "content": "All about   async.", "publishedDate": "2026-05-01T00:00:00", "engine": "x", "score": 1.0, "category": "general"},
    {"url": "https://spam.example/a", "title": "Spam", "content": null, "publishedDate": null},
    {"url": "javascript:alert(1)", "title": "Trick"}
], "answers": [], "suggestions": ["rust async book"], "unresponsive_engines": []}"#;

const BRAVE: &str = r#"{"type": "search", "query": {"original": "rust async"}, "web": {"type": "search", "results": [
    {"title": "Async Rust", "url": "https://rust-lang.example/async", "description": "All about <strong>async</strong> &amp; await.", "page_age": "2026-05-01T10:00:00", "age": "May 1, 2026", "language": "en", "family_friendly": true, "meta_url": {"hostname": "rust-lang.example"}},
    {"title": "Undated", "url": "https://b.example/", "description": ""}
]}}"#;

const TAVILY: &str = r#"{"query": "rust async", "answer": null, "images": [], "results": [
    {"url": "https://rust-lang.example/async", "title": "Async Rust", "content": "All about async.", "score": 0.98, "raw_content": null, "published_date": "2026-05-01"}
], "response_time": 0.6, "request_id": "r"}"#;

#[tokio::test]
async fn searxng_is_asked_and_read_as_it_documents() {
    let engine = Recorded::start("200 OK", SEARXNG).await;
    let domains = Domains { blocked: vec!["spam.example".into()], ..Domains::default() };
    let cx = context(Engine::Searxng { url: engine.base.parse().expect("a URL") }, domains).await;
    let found = search(&cx, json!({"query": "  rust\n async ", "allowed_domains": null})).await.expect("is found");
    assert_eq!(engine.asked().line, "GET /search?q=rust+async&format=json HTTP/1.1");
    assert_eq!(
        found.to_text(),
        "Results for \"rust async\":\n\n1. Async Rust (2026-05-01T00:00:00)\n   https://rust-lang.example/async\n   All about async.\n"
    );
    let hits = vec![hit("Async Rust", "https://rust-lang.example/async", Some("2026-05-01T00:00:00"))];
    assert_eq!(found.detail, Some(Detail::WebSearch { query: "rust async".into(), hits }));
    assert_eq!(found.cost, MicroUsd(5_000));
    // One domain is asked for in the words that engines know; what comes from elsewhere is left out all the same.
    let none =
        search(&cx, json!({"query": "rust async", "allowed_domains": ["https://Docs.Example/"]})).await.expect("none");
    assert_eq!(engine.asked().line, "GET /search?q=rust+async+site%3Adocs.example&format=json HTTP/1.1");
    assert_eq!(none.to_text(), "Nothing was found for \"rust async\".");
}

#[tokio::test]
async fn brave_is_asked_with_its_key_and_read_as_it_documents() {
    let engine = Recorded::start("200 OK", BRAVE).await;
    let url = format!("{}/res/v1/web/search", engine.base).parse().expect("a URL");
    let cx = context(Engine::Brave { url, key: "brave-key".to_owned().into() }, Domains::default()).await;
    let found = search(&cx, json!({"query": "rust async", "blocked_domains": ["b.example"]})).await.expect("is found");
    let asked = engine.asked();
    assert_eq!(asked.line, "GET /res/v1/web/search?q=rust+async&count=20 HTTP/1.1");
    assert_eq!(
        (asked.header("x-subscription-token"), asked.header("accept")),
        (Some("brave-key"), Some("application/json"))
    );
    assert_eq!(
        found.to_text(),
        "Results for \"rust async\":\n\n1. Async Rust (2026-05-01T10:00:00)\n   https://rust-lang.example/async\n   All about async & await.\n"
    );
}

#[tokio::test]
async fn tavily_is_asked_with_its_key_and_the_domains() {
    let engine = Recorded::start("200 OK", TAVILY).await;
    let url = format!("{}/search", engine.base).parse().expect("a URL");
    let domains = Domains { blocked: vec!["spam.example".into()], ..Domains::default() };
    let cx = context(Engine::Tavily { url, key: "tvly-key".to_owned().into() }, domains).await;
    let input =
        json!({"query": "rust async", "allowed_domains": ["rust-lang.example"], "blocked_domains": ["x.example"]});
    let found = search(&cx, input).await.expect("is found");
    let asked = engine.asked();
    assert_eq!(
        (asked.line.as_str(), asked.header("authorization")),
        ("POST /search HTTP/1.1", Some("Bearer tvly-key"))
    );
    assert_eq!(
        serde_json::from_slice::<Value>(&asked.body).expect("JSON"),
        json!({
            "query": "rust async", "max_results": 20, "search_depth": "basic",
            "include_domains": ["rust-lang.example"], "exclude_domains": ["spam.example", "x.example"],
        })
    );
    assert!(found.to_text().contains("1. Async Rust (2026-05-01)"), "{}", found.to_text());
}

#[tokio::test]
async fn what_goes_wrong_is_told_without_the_key() {
    for (status, body, told) in [
        ("401 Unauthorized", "bad key canary-key", "refuses this server (401 Unauthorized)"),
        ("429 Too Many Requests", "", "has had too many searches"),
        ("500 Internal Server Error", "canary-key", "answered 500 Internal Server Error"),
        ("302 Found", "", "answered 302 Found"),
        ("200 OK", "<html>", "answer cannot be read"),
        ("200 OK", r#"{"results": [{"title": "no address"}]}"#, "answer cannot be read"),
    ] {
        let engine = Recorded::start(status, body).await;
        let url = engine.base.parse().expect("a URL");
        let cx = context(Engine::Tavily { url, key: "canary-key".to_owned().into() }, Domains::default()).await;
        let said = search(&cx, json!({"query": "rust"})).await.expect_err("it fails");
        assert!(said.contains(told) && !said.contains("canary"), "{status}: {said}");
    }
    let nobody = Engine::Searxng { url: "http://127.0.0.1:1/".parse().expect("a URL") };
    let cx = context(nobody, Domains::default()).await;
    assert!(search(&cx, json!({"query": "rust"})).await.expect_err("nobody is there").contains("cannot be reached"));
    for query in ["", "x", &"x".repeat(401)] {
        let said = search(&cx, json!({"query": query})).await.expect_err("is refused");
        assert_eq!(said, "query must have 2 to 400 characters.");
    }
}
