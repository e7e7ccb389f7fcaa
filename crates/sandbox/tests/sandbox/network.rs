//! What containers reach, and what they do not.

use std::{collections::HashSet, net::TcpListener, time::Duration};

use sandbox::{Egress, Exit, Network, Spec};

use crate::{
    canaries::{Canary, Neighbour, addresses, reaches},
    world::{World, bash, eventually, finish, firewall, interface, run},
};

#[tokio::test]
async fn without_network_nothing_is_reached() {
    let world = World::new().await;
    let sandbox = world.open().await;
    let script = "ls /sys/class/net; getent hosts deb.debian.org; timeout 3 bash -c 'echo > /dev/tcp/1.1.1.1/80' 2>/dev/null; echo $?";
    assert_eq!(run(&sandbox, script).await.0, "lo\n1\n");
}

/// Needs a host that lets us set firewall rules; elsewhere it asserts that opening fails closed.
#[tokio::test]
async fn with_internet_the_host_and_private_networks_stay_out_of_reach() {
    let world = World::new().await;
    let spec = Spec { network: Network::Open, ..world.spec() };
    if let Egress::NotEnforced(reason) = world.sandboxes.report().await.egress {
        assert!(matches!(world.sandboxes.open(&spec).await, Err(sandbox::Error::Unfiltered(_))), "{reason}");
        return;
    }
    let sandbox = world.sandboxes.open(&spec).await.expect("opens");
    let second = Spec { environment: domain::EnvironmentId::generate(), ..spec.clone() };
    let second = world.sandboxes.open(&second).await.expect("opens");
    let _server = second.spawn(bash("python3 -m http.server 8000")).await.expect("starts");
    let own =
        run(&second, "hostname -i; until (echo > /dev/tcp/127.0.0.1/8000) 2>/dev/null; do sleep 0.05; done").await.0;

    // A service of the host on every address.
    let service = TcpListener::bind("0.0.0.0:0").expect("binds");
    let port = service.local_addr().expect("bound").port();
    let host = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        // Sends nothing; tells which address the host would use.
        socket.connect("1.1.1.1:80")?;
        socket.local_addr()
    });
    let host = host.map(|address| address.ip().to_string()).unwrap_or_else(|_| "127.0.0.1".to_owned());
    let try_tcp = async |seconds: u8, address: &str, port: u16| {
        let script = format!("timeout {seconds} bash -c 'echo > /dev/tcp/{address}/{port}' 2>/dev/null");
        run(&sandbox, &script).await.1
    };
    let gateway = own.trim().rsplit_once('.').map(|(network, _)| format!("{network}.1")).expect("an address");
    for (address, port) in [
        (gateway.as_str(), port),
        (host.as_str(), port),
        (own.trim(), 8000),
        ("169.254.169.254", 80),
        ("10.0.0.1", 80),
        ("192.168.0.1", 80),
        ("172.17.0.1", port),
        ("100.100.100.200", 80),
        ("192.0.0.192", 80),
    ] {
        assert_ne!(try_tcp(3, address, port).await, Exit::Code(0), "{address}:{port}");
    }
    // Names are resolved, wherever the resolver is, and the internet is there.
    let (resolved, exit) = run(&sandbox, "getent hosts deb.debian.org").await;
    assert_eq!(exit, Exit::Code(0), "{resolved}");
    assert_eq!(try_tcp(30, "deb.debian.org", 80).await, Exit::Code(0));
    let mut process = sandbox
        .spawn(bash(
            "curl -sS -m 60 -o /dev/null -w '%{http_code}' http://deb.debian.org/debian/dists/bookworm/Release",
        ))
        .await
        .expect("starts");
    assert_eq!(finish(&mut process).await.0, "200");

    // Flushed by somebody: the next pass of the reconciler sets them again, and setting twice is setting once.
    let ours = || {
        let rules = firewall();
        let jump = format!("-A INPUT -i {}", interface(&world.options.installation));
        let chain = rules.lines().find(|rule| rule.starts_with(&jump));
        let chain = chain.and_then(|rule| rule.split(' ').next_back()).expect("a jump").to_owned();
        (rules.lines().filter(|rule| rule.contains(&chain)).count(), chain)
    };
    let (count, chain) = ours();
    let flushed = std::process::Command::new("iptables").args(["-w", "10", "-F", &chain]).status().expect("runs");
    assert!(flushed.success() && ours().0 < count);
    let wanted = HashSet::from([spec.environment.clone(), second.environment().clone()]);
    for _ in 0..2 {
        world.sandboxes.reconcile(&wanted).await.expect("reconciles");
        assert_eq!(ours(), (count, chain.clone()));
    }
}

/// What is near by its number, wherever this host is: metadata services, private networks, this host under other names.
const NEAR: [&str; 15] = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "10.0.0.1",
    "10.255.255.254",
    "172.16.0.1",
    "172.31.0.1",
    "192.168.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "0.0.0.0",
    "198.18.0.1",
    "fd00:ec2::254",
    "fe80::1%eth0",
];

#[tokio::test]
async fn no_canary_of_this_host_or_near_it_is_reached_from_a_container() {
    let world = World::new().await;
    let canary = Canary::start();
    let neighbour = Neighbour::start(&world.options.image);
    let is_filtered = world.sandboxes.report().await.egress == Egress::Enforced;
    let mut tried = 0;
    for network in [Network::None, Network::Open] {
        if network == Network::Open && !is_filtered {
            continue;
        }
        let spec = Spec { network, environment: domain::EnvironmentId::generate(), ..world.spec() };
        let sandbox = world.sandboxes.open(&spec).await.expect("opens");
        // After it is open: the bridge's own address is one of this host's.
        let ours = addresses();
        let reachable = ours.iter().filter(|address| reaches(address, canary.port)).count();
        assert!(reachable >= 2, "this host reaches its own canary: {ours:?}");
        eventually(Duration::from_secs(30), async || reaches(&neighbour.address.to_string(), Neighbour::PORT)).await;
        // A connection is made before it is counted.
        let mut own = 0;
        eventually(Duration::from_secs(30), async || {
            own += canary.hits();
            own == reachable
        })
        .await;
        let mut targets: Vec<String> = ours.iter().map(|address| format!("{address} {}", canary.port)).collect();
        // An interface has another name inside.
        targets.extend(ours.iter().filter_map(|address| {
            let (address, _) = address.split_once('%')?;
            Some(format!("{address}%eth0 {}", canary.port))
        }));
        targets.extend(NEAR.iter().flat_map(|address| [80, canary.port].map(|port| format!("{address} {port}"))));
        targets.push(format!("{} {}", neighbour.address, Neighbour::PORT));
        sandbox.write_file("/tmp/targets", targets.join("\n").as_bytes()).await.expect("writes");
        sandbox.write_file("/tmp/egress.py", include_bytes!("egress.py")).await.expect("writes");
        let (output, exit) = run(&sandbox, "python3 /tmp/egress.py < /tmp/targets").await;
        assert_eq!(exit, Exit::Code(0), "{output}");
        // Its own loopback answers to 0.0.0.0, with nobody there.
        assert_eq!(output, format!("tried {}\n", targets.len()), "{network:?}");
        assert_eq!(canary.hits(), 0, "{network:?}");
        tried += targets.len();
    }
    println!("{{\"test\": \"S5\", \"n\": {tried}, \"hits\": 0, \"filtered\": {is_filtered}, \"pass\": true}}");
}

#[tokio::test]
async fn an_operator_may_name_a_private_address() {
    let world = World::with(|options| options.egress_allow = vec!["172.17.0.0/16".to_owned()]).await;
    if world.sandboxes.report().await.egress != Egress::Enforced {
        return;
    }
    let sandbox = world.sandboxes.open(&Spec { network: Network::Open, ..world.spec() }).await.expect("opens");
    assert!(firewall().contains("-d 172.17.0.0/16 -j RETURN"));
    let timeout = Duration::from_secs(20);
    let mut process = sandbox
        .spawn(sandbox::Command { timeout: Some(timeout), ..bash("getent hosts deb.debian.org") })
        .await
        .expect("starts");
    assert_eq!(finish(&mut process).await.2, Exit::Code(0));
}

#[tokio::test]
async fn root_installs_packages_with_the_rights_it_keeps() {
    let world = World::new().await;
    if world.sandboxes.report().await.egress != Egress::Enforced || !world.options.user.starts_with("0:") {
        return;
    }
    let sandbox = world.sandboxes.open(&Spec { network: Network::Open, ..world.spec() }).await.expect("opens");
    let script = "set -e; apt-get update -qq; apt-get install -qq -y --no-install-recommends hello >/dev/null; hello";
    let timeout = Some(Duration::from_secs(120));
    let mut process = sandbox.spawn(sandbox::Command { timeout, ..bash(script) }).await.expect("starts");
    let (output, errors, exit) = finish(&mut process).await;
    assert_eq!((output.as_str(), exit), ("Hello, world!\n", Exit::Code(0)), "{errors}");
}
