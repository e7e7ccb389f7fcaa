//! The host's firewall rules for the bridge: the internet yes, this host and private networks no.
//!
//! A container's packets to this host (the bridge's gateway *is* the host) pass the `INPUT` chain, all others pass
//! `DOCKER-USER`, which the engine calls first of all. From both we jump to chains of our own, named for the
//! installation, whose content is replaced as a whole, so setting the rules twice is setting them once.
//!
//! DNS needs an exception: the engine's resolver inside a container asks the host's nameservers from the container's own
//! network, and these are often at a private address. So exactly their port 53 is let through. Where `systemd-resolved` is
//! the host's only nameserver, the engine takes those that it asks in turn, from a file of its, and so do we. (Any other
//! nameserver on the host's loopback is asked by the engine itself, from the host, and needs nothing.)

use std::{fs, net::Ipv4Addr, path::Path, process::Stdio, str::FromStr};

use domain::address;
use serde::Serialize;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::Error;

/// What containers resolve names by, as the engine looks at it.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const SYSTEMD_RESOLV_CONF: &str = "/run/systemd/resolve/resolv.conf";
const SYSTEMD_STUB: &str = "127.0.0.53";

/// Whether containers with internet are kept from this host and from private networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Egress {
    Enforced,
    /// With the reason.
    NotEnforced(String),
}

/// The rules of one installation's bridge.
pub(crate) struct Rules {
    interface: String,
    input: String,
    forward: String,
    refuse: String,
    allow: Vec<String>,
}

impl Rules {
    /// # Errors
    /// `Other` for an entry of `allow` that is no IPv4 address or network.
    pub(crate) fn new(interface: &str, hash: &str, allow: &[String]) -> Result<Self, Error> {
        if let Some(bad) = allow.iter().find(|entry| !is_network(entry)) {
            return Err(Error::other(
                "cannot read the allowed addresses",
                format!("'{bad}' is no IPv4 address or network"),
            ));
        }
        Ok(Self {
            interface: interface.to_owned(),
            input: format!("ATELIER-{hash}-IN"),
            forward: format!("ATELIER-{hash}-FWD"),
            refuse: format!("ATELIER-{hash}-NO"),
            allow: allow.to_vec(),
        })
    }

    /// Sets the rules, whatever was there.
    pub(crate) async fn set(&self) -> Egress {
        let nameservers = nameservers(Path::new(RESOLV_CONF), Path::new(SYSTEMD_RESOLV_CONF));
        let set = async {
            feed("iptables-restore", &["-w", "10", "--noflush"], &self.chains(&nameservers)).await?;
            self.jump("INPUT", &self.input).await?;
            self.jump("DOCKER-USER", &self.forward).await
        };
        if let Err(reason) = set.await {
            return Egress::NotEnforced(reason);
        }
        // The bridge has no IPv6, but its interface may have a link-local address. No ip6tables, no IPv6 to filter.
        for chain in ["INPUT", "FORWARD"] {
            let rule = [chain, "-i", &self.interface, "-j", "DROP"];
            if run("ip6tables", &[&["-w", "10", "-C"], &rule[..]].concat()).await.is_err() {
                let _ = run("ip6tables", &[&["-w", "10", "-I"], &rule[..]].concat()).await;
            }
        }
        Egress::Enforced
    }

    /// Tells whether [`set`](Self::set) would be permitted.
    pub(crate) async fn could_set(&self) -> Egress {
        match run("iptables", &["-w", "10", "-n", "-L", "DOCKER-USER"]).await {
            Ok(()) => Egress::Enforced,
            Err(reason) => Egress::NotEnforced(reason),
        }
    }

    /// Removes all of it. What is not there is no failure.
    pub(crate) async fn remove(&self) {
        for (chain, target) in [("INPUT", &self.input), ("DOCKER-USER", &self.forward)] {
            let _ = run("iptables", &["-w", "10", "-D", chain, "-i", &self.interface, "-j", target]).await;
        }
        for chain in [&self.input, &self.forward, &self.refuse] {
            let _ = run("iptables", &["-w", "10", "-F", chain]).await;
            let _ = run("iptables", &["-w", "10", "-X", chain]).await;
        }
        for chain in ["INPUT", "FORWARD"] {
            let _ = run("ip6tables", &["-w", "10", "-D", chain, "-i", &self.interface, "-j", "DROP"]).await;
        }
    }

    /// Gives our chains as `iptables-restore` reads them; naming a chain empties it, all in one step.
    fn chains(&self, nameservers: &[Ipv4Addr]) -> String {
        let Self { input, forward, refuse, allow, .. } = self;
        let mut text = format!("*filter\n:{input} - [0:0]\n:{forward} - [0:0]\n:{refuse} - [0:0]\n");
        let mut rule = |chain: &str, rule: &str| text += &format!("-A {chain} {rule}\n");
        // A reset is believed at once; after any other refusal a client tries on for a second.
        rule(refuse, "-p tcp -j REJECT --reject-with tcp-reset");
        rule(refuse, "-j REJECT");
        // Answers to what the host itself asked a container.
        rule(input, "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN");
        rule(input, &format!("-j {refuse}"));
        rule(forward, "-m conntrack --ctstate ESTABLISHED,RELATED -j RETURN");
        for nameserver in nameservers {
            for protocol in ["udp", "tcp"] {
                rule(forward, &format!("-d {nameserver}/32 -p {protocol} --dport 53 -j RETURN"));
            }
        }
        for network in allow {
            rule(forward, &format!("-d {network} -j RETURN"));
        }
        for network in address::SPECIAL_V4 {
            rule(forward, &format!("-d {network} -j {refuse}"));
        }
        text + "COMMIT\n"
    }

    async fn jump(&self, chain: &str, target: &str) -> Result<(), String> {
        let rule = [chain, "-i", &self.interface, "-j", target];
        if run("iptables", &[&["-w", "10", "-C"], &rule[..]].concat()).await.is_ok() {
            return Ok(());
        }
        run("iptables", &[&["-w", "10", "-I"], &rule[..]].concat()).await
    }
}

/// Gives the nameservers that are asked over the network, as the engine takes them from the host's files.
///
/// Docker's `libnetwork/internal/resolvconf` has this rule: the second file counts when the first one names 127.0.0.53 and
/// no other, of whatever family.
fn nameservers(resolv_conf: &Path, systemd: &Path) -> Vec<Ipv4Addr> {
    let named = |file: &Path| -> Vec<String> {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|words| words.len() > 1 && words[0] == "nameserver").map(|words| words[1].to_owned()).collect()
    };
    let mut servers = named(resolv_conf);
    if servers == [SYSTEMD_STUB] {
        servers = named(systemd);
    }
    servers
        .iter()
        .filter_map(|address| address.parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_loopback())
        .collect()
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, "32"));
    Ipv4Addr::from_str(address).is_ok() && length.parse::<u8>().is_ok_and(|length| length <= 32)
}

async fn run(program: &str, args: &[&str]) -> Result<(), String> {
    feed(program, args, "").await
}

/// Runs a program with `input`; the error is a sentence for the operator.
async fn feed(program: &str, args: &[&str], input: &str) -> Result<(), String> {
    let child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|err| format!("{program} cannot be run ({err})"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended without reading; its status says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|err| format!("{program} cannot be run ({err})"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} fails: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_read_as_they_should() {
        let rules = Rules::new("atl0", "0", &["10.9.0.0/16".to_owned()]).expect("valid");
        insta::assert_snapshot!(rules.chains(&[Ipv4Addr::new(10, 0, 0, 2)]));
    }

    #[test]
    fn an_allowed_address_cannot_smuggle_a_rule() {
        for bad in ["", "example.com", "10.0.0.0/33", "10.0.0.1 -j ACCEPT", "::1", "10.0.0.0/8\n-A"] {
            assert!(Rules::new("atl0", "0", &[bad.to_owned()]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn nameservers_are_those_that_the_engine_asks() {
        let directory = tempfile::tempdir().expect("a directory");
        let (main, systemd) = (directory.path().join("resolv.conf"), directory.path().join("systemd"));
        let read = |text: &str| {
            fs::write(&main, text).expect("writes");
            nameservers(&main, &systemd)
        };
        let none: [Ipv4Addr; 0] = [];
        let (lan, upstream) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 168, 1, 1));
        let stub =
            "# This is /run/systemd/resolve/stub-resolv.conf\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n";
        assert_eq!(read(stub), none, "no file of systemd's");
        fs::write(&systemd, "nameserver 192.168.1.1\nnameserver fe80::1%eth0\n").expect("writes");
        assert_eq!(read(stub), [upstream]);
        assert_eq!(
            read("# made by hand\nnameserver 127.0.0.53\nnameserver\t10.0.0.2 # lan\nnameserver fd00::1\n"),
            [lan]
        );
        assert_eq!(read("nameserver 127.0.0.53\nnameserver fd00::1\n"), none);
        assert_eq!(read("nameserver 127.0.0.1\n"), none, "another resolver on the loopback");
        assert_eq!(read("#nameserver 10.0.0.2\n"), none);
        assert_eq!(nameservers(&directory.path().join("none"), &systemd), none);
    }
}
