//! The host's firewall rules for the bridge: the internet yes, this host and private networks no.
//!
//! A container's packets to this host (the bridge's gateway *is* the host) pass the `INPUT` chain, all others pass
//! `DOCKER-USER`, which the engine calls first of all. From both we jump to chains of our own, named for the
//! installation, whose content is replaced as a whole, so setting the rules twice is setting them once.
//!
//! DNS needs an exception: the engine's resolver inside a container asks the host's nameservers from the container's own
//! network, and these are often at a private address. So exactly their port 53 is let through. (A nameserver on the host's
//! loopback is asked by the engine itself and needs nothing.)

use std::{fs, net::Ipv4Addr, process::Stdio, str::FromStr};

use serde::Serialize;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::Error;

/// Not the internet: RFC 6890 and what followed it. The three ranges for documentation are not here: nothing answers
/// there, and where something does, an operator has put it there for a reason.
const REFUSED: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

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
        let nameservers = nameservers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
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
        for network in REFUSED {
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

/// Gives the nameservers that are asked over the network, as the engine takes them from the host's file.
fn nameservers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    servers
        .filter_map(|address| address.trim().parse().ok())
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
    fn nameservers_on_the_loopback_need_no_rule() {
        let file = "# made by hand\nsearch lan\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fd00::1\n";
        assert_eq!(nameservers(file), [Ipv4Addr::new(10, 0, 0, 2)]);
    }
}
