use std::net::Ipv4Addr;

use chrono::Utc;
use domain::{EnvironmentId, PreviewId};
use secrecy::SecretString;

use super::*;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn names(way: Way, rewrites_host: bool) -> Names {
    let preview = PreviewId::generate();
    let authority = match way {
        Way::Path => "127.0.0.1:8081".to_owned(),
        Way::Link | Way::Cookie => "p.localhost:8081".to_owned(),
    };
    let knock =
        Knock { preview: preview.clone(), token: SecretString::from("tok"), way, target: "/".into(), authority };
    let preview = Preview {
        id: preview,
        environment_id: EnvironmentId::generate(),
        port: 5000,
        name: None,
        rewrites_host,
        created_at: Utc::now(),
        expires_at: Utc::now(),
    };
    Names::new(&Site::local(8081), &preview, &knock)
}

fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
    let pairs = of.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value")));
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    headers
}

/// Gives all headers as text, sorted.
fn text(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

#[test]
fn nothing_of_ours_and_nothing_of_the_connection_goes_in() {
    let mut sent = headers(&[
        ("host", "p.localhost:8081"),
        ("connection", "keep-alive, X-Private"),
        ("keep-alive", "timeout=5"),
        ("x-private", "1"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("upgrade", "h2c"),
        ("cookie", "a=1; atelier_preview=tok"),
        ("cookie", "b=2"),
        ("authorization", "Bearer tb_0123"),
        ("x-api-key", "tb_0123"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-host", "evil"),
        ("forwarded", "for=6.6.6.6"),
        ("origin", "http://p.localhost:8081"),
        ("accept", "*/*"),
    ]);
    inward(&mut sent, &names(Way::Cookie, false), CLIENT, false);
    assert_eq!(
        text(&sent),
        [
            "accept: */*",
            "cookie: a=1; b=2",
            "host: p.localhost:8081",
            "origin: http://p.localhost:8081",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: p.localhost:8081",
            "x-forwarded-proto: http",
        ]
    );
    // What listens may have keys of its own.
    let mut sent = headers(&[("authorization", "Basic dXNlcjpwdw=="), ("x-api-key", "theirs"), ("cookie", "a=1")]);
    inward(&mut sent, &names(Way::Cookie, false), CLIENT, false);
    assert!(sent.contains_key("authorization") && sent.contains_key("x-api-key"));
    // Behind a proxy of ours the client is who the proxy says.
    let mut sent = headers(&[("x-forwarded-for", "9.9.9.9")]);
    inward(&mut sent, &names(Way::Cookie, false), CLIENT, true);
    assert_eq!(sent["x-forwarded-for"], "9.9.9.9, 127.0.0.1");
}

#[test]
fn who_is_told_another_name_is_told_it_everywhere() {
    let mut sent = headers(&[
        ("host", "p.localhost:8081"),
        ("origin", "http://p.localhost:8081"),
        ("referer", "http://p.localhost:8081/a?b"),
    ]);
    inward(&mut sent, &names(Way::Cookie, true), CLIENT, false);
    assert_eq!(
        text(&sent),
        [
            "host: localhost:5000",
            "origin: http://localhost:5000",
            "referer: http://localhost:5000/a?b",
            "x-forwarded-for: 127.0.0.1",
        ]
    );
    let mut sent = headers(&[("origin", "http://evil.example"), ("referer", "http://p.localhost:80811/")]);
    inward(&mut sent, &names(Way::Cookie, true), CLIENT, false);
    assert_eq!(sent["origin"], "http://evil.example");
    assert_eq!(sent["referer"], "http://p.localhost:80811/");
    // A tool's address holds the token.
    let names = names(Way::Path, false);
    let mut sent = headers(&[("referer", &format!("http://127.0.0.1:8081{}/a", names.prefix))]);
    inward(&mut sent, &names, CLIENT, false);
    assert_eq!(sent["referer"], "http://localhost:5000/a");
    let mut sent = headers(&[("referer", &format!("http://other{}/a", names.prefix))]);
    inward(&mut sent, &names, CLIENT, false);
    assert!(!sent.contains_key("referer"));
}

#[test]
fn where_a_client_is_sent_to_is_where_it_can_go() {
    let (host, tool) = (names(Way::Cookie, false), names(Way::Path, false));
    let prefix = tool.prefix.clone();
    let cases = [
        ("/login", None, Some(format!("{prefix}/login"))),
        ("login", None, None),
        ("//cdn.example/x", None, None),
        ("https://example.com/", None, None),
        ("http://localhost:9999/other", None, None),
        (
            "http://localhost:5000/a?b#c",
            Some("http://p.localhost:8081/a?b#c".to_owned()),
            Some(format!("http://127.0.0.1:8081{prefix}/a?b#c")),
        ),
        (
            "http://0.0.0.0:5000",
            Some("http://p.localhost:8081/".to_owned()),
            Some(format!("http://127.0.0.1:8081{prefix}/")),
        ),
        ("http://p.localhost:8081/a", None, None),
    ];
    for (location, by_host, by_path) in cases {
        assert_eq!(host.outward(location), by_host, "{location}");
        assert_eq!(tool.outward(location), by_path, "{location}");
    }
}

#[test]
fn cookies_stay_with_their_host() {
    let mut answer = headers(&[
        ("set-cookie", "a=1; Path=/; Domain=.localhost; HttpOnly"),
        ("set-cookie", "domain=kept;domain=example.com"),
        ("set-cookie", "atelier_preview=stolen; Path=/"),
        ("connection", "close"),
    ]);
    outward(&mut answer, &names(Way::Cookie, false));
    assert_eq!(text(&answer), ["set-cookie: a=1; Path=/; HttpOnly", "set-cookie: domain=kept"]);
    let mut answer = headers(&[("content-security-policy", "default-src *")]);
    outward(&mut answer, &names(Way::Path, false));
    assert_eq!(text(&answer), ["content-security-policy: default-src *", "content-security-policy: sandbox"]);
}

#[test]
fn only_a_websocket_changes_the_connection() {
    assert!(asks_for_websocket(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
    assert!(!asks_for_websocket(&headers(&[("connection", "upgrade"), ("upgrade", "h2c")])));
    assert!(!asks_for_websocket(&headers(&[("upgrade", "websocket")])));
}
