//! Listeners that no container may reach, on every address of this host and on a private one that is not this host's.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Counts who reaches a port of this host, over TCP and UDP, IPv4 and IPv6, on every address.
pub(crate) struct Canary {
    pub(crate) port: u16,
    hits: Arc<AtomicUsize>,
}

impl Canary {
    pub(crate) fn start() -> Self {
        // On `::` it is there for IPv4 too; a host without IPv6 has only that.
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).expect("binds");
        let address = listener.local_addr().expect("bound");
        let socket = UdpSocket::bind(address).expect("the same port is free for UDP");
        let hits = Arc::new(AtomicUsize::new(0));
        let (tcp, udp) = (Arc::clone(&hits), Arc::clone(&hits));
        // They end with the test's process.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                tcp.fetch_add(usize::from(connection.is_ok()), Ordering::SeqCst);
            }
        });
        std::thread::spawn(move || {
            while socket.recv_from(&mut [0; 64]).is_ok() {
                udp.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port: address.port(), hits }
    }

    /// How often it was reached since it was asked last.
    pub(crate) fn hits(&self) -> usize {
        self.hits.swap(0, Ordering::SeqCst)
    }
}

/// Gives every address of this host but the loopback's, with the interface where one is needed (`fe80::1%eth0`).
pub(crate) fn addresses() -> BTreeSet<String> {
    let output = Command::new("ip").args(["-o", "addr"]).output().expect("ip is installed").stdout;
    let text = String::from_utf8_lossy(&output).into_owned();
    let found = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (interface, address) = (words.get(1)?, words.get(3)?.split('/').next()?);
        Some(if address.starts_with("fe80") { format!("{address}%{interface}") } else { address.to_owned() })
    });
    found.filter(|address| !address.starts_with("127.") && address != "::1").collect()
}

/// Tells whether this host itself reaches an address: a canary that nobody can reach proves nothing.
pub(crate) fn reaches(address: &str, port: u16) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(3)).is_ok()
}

/// A container of somebody else's on a network of its own, with a web server: a private address that is not this
/// host's. Removed when dropped.
pub(crate) struct Neighbour {
    id: String,
    network: String,
    pub(crate) address: Ipv4Addr,
}

impl Neighbour {
    pub(crate) const PORT: u16 = 8000;

    pub(crate) fn start(image: &str) -> Self {
        let network = format!("neighbour-{}", std::process::id());
        docker(&["network", "create", &network]);
        let id = docker(&["run", "-d", "--rm", "--network", &network, image, "python3", "-m", "http.server"]);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = docker(&["inspect", "-f", format, &id]);
        Self { id, network, address: address.parse().expect("an address") }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.id]);
        docker(&["network", "rm", &self.network]);
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker is installed");
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
