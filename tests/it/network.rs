//! What a tool reaches: nothing, or the internet without everything that is near.

use std::net::TcpListener;

use serde_json::json;
use system_tests::World;

fn probe(address: &str, port: u16) -> String {
    format!("timeout 2 bash -c 'echo > /dev/tcp/{address}/{port}' 2>/dev/null && echo reached {address}:{port}; ")
}

#[tokio::test(flavor = "multi_thread")]
async fn without_internet_access_a_tool_reaches_nothing() {
    let world = World::start().await;
    let thread = world.thread(&world.environment(false).await).await;
    let service = TcpListener::bind("0.0.0.0:0").expect("binds");
    let port = service.local_addr().expect("bound").port();
    let addresses = [("172.17.0.1", port), ("169.254.169.254", 80), ("1.1.1.1", 443), ("deb.debian.org", 80)];
    let tries: String = addresses.iter().map(|(address, port)| probe(address, *port)).collect();
    let (output, _) =
        world.bash(&thread, &format!("{tries} ls /sys/class/net; getent hosts deb.debian.org; true")).await;
    assert_eq!(output, "lo");
    world.finish().await;
}

/// Where this host cannot keep containers from what is near, it must not let them out at all.
#[tokio::test(flavor = "multi_thread")]
async fn with_internet_access_a_tool_reaches_debian_but_nothing_near() {
    let world = World::start().await;
    let environment = world.environment(true).await;
    let started =
        world.call(reqwest::Method::POST, &format!("/v1/environments/{environment}/start"), Some(json!({}))).await;
    if started.status == 409 {
        assert_eq!(started.json()["code"], "egress_not_enforced", "{started:?}");
        assert_eq!(world.containers(), Vec::new());
        return world.finish().await;
    }
    let thread = world.thread(&environment).await;
    let service = TcpListener::bind("0.0.0.0:0").expect("binds");
    let port = service.local_addr().expect("bound").port();
    let host = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Sends nothing; tells which address the host would use.
        socket.connect("1.1.1.1:80")?;
        socket.local_addr()
    });
    let host = host.expect("the host has an address").ip().to_string();
    let api = world.url("").rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let near = [
        ("$gateway", port),
        ("$gateway", api),
        ("127.0.0.1", api),
        (&host, port),
        ("172.17.0.1", port),
        ("10.0.0.1", 80),
        ("192.168.0.1", 80),
        ("169.254.169.254", 80),
        ("100.100.100.200", 80),
    ];
    let gateway = "own=$(hostname -i); gateway=${own%.*}.1; export gateway; ";
    let tries: String = near.iter().map(|(address, port)| probe(address, *port).replace('\'', "\"")).collect();
    let (output, _) = world.bash(&thread, &format!("{gateway}{tries} true")).await;
    assert!(!output.contains("reached"), "{output}");
    let fetch = "curl -sS -m 20 -o /dev/null -w '%{http_code}' http://deb.debian.org/debian/dists/bookworm/Release";
    assert_eq!(world.bash(&thread, fetch).await, ("200".to_owned(), false));
    world.finish().await;
}
