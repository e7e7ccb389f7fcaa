//! The TCP ports of this container that something listens on, as the kernel's tables tell.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use guest_protocol::Port;

/// As many as the host is told of.
const MAX_PORTS: usize = 256;
/// Whose a socket is, is found by looking at the open files of all processes: at this many and no more, since everything
/// else waits meanwhile.
const MAX_LOOKS: usize = 50_000;
const MAX_NAME_CHARS: usize = 64;

/// The engine's own resolver listens there, on networks that have one. It is not the container's.
const ENGINE_DNS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// The state of a socket that listens, in the kernel's tables.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    port: u16,
    inode: u64,
}

/// Lists the ports, each once, with the process that holds it where that may be seen.
pub(crate) fn list() -> Vec<Port> {
    let mut by_port: BTreeMap<u16, Vec<u64>> = BTreeMap::new();
    for listener in listeners() {
        by_port.entry(listener.port).or_default().push(listener.inode);
    }
    let wanted: Vec<u64> = by_port.values().flatten().copied().take(2 * MAX_PORTS).collect();
    let owners = owners(&wanted);
    let ports = by_port.into_iter().take(MAX_PORTS).map(|(port, inodes)| {
        let pid = inodes.iter().find_map(|inode| owners.get(inode)).copied();
        Port { port, pid, process: pid.and_then(name) }
    });
    ports.collect()
}

/// Gives the addresses at which what listens on `port` can be reached from here; none when nothing does.
///
/// Nothing else is ever connected to: what the host may open is what listens in this container.
pub(crate) fn addresses(port: u16) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for listener in listeners().into_iter().filter(|listener| listener.port == port) {
        let reachable = match listener.address {
            IpAddr::V4(address) if address.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
            // Usually for both families, and there are containers without the newer one on their loopback.
            IpAddr::V6(address) if address.is_unspecified() => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            address => vec![address],
        };
        for address in reachable {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    addresses
}

fn listeners() -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let listeners = tables.iter().flat_map(|table| table.lines().skip(1).filter_map(parse));
    listeners.filter(|listener| listener.address != ENGINE_DNS).collect()
}

/// Reads a line of the kernel's table; `None` for a socket that does not listen.
fn parse(line: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    // Words in the machine's own order, as they lie in memory.
    let word = |text: &str| Some(u32::from_str_radix(text, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(word(address)?.into()),
        32 => {
            let mut bytes = [0; 16];
            for (index, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(address.get(index * 8..index * 8 + 8)?)?);
            }
            IpAddr::V6(bytes.into())
        }
        _ => return None,
    };
    Some(Listener { address, port: u16::from_str_radix(port, 16).ok()?, inode: fields.get(9)?.parse().ok()? })
}

/// Finds the processes that hold these sockets.
fn owners(inodes: &[u64]) -> HashMap<u64, u32> {
    let mut owners = HashMap::new();
    if inodes.is_empty() {
        return owners;
    }
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let files = pids.flat_map(|pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.map(move |entry| (pid, entry.path()))
    });
    for (pid, file) in files.take(MAX_LOOKS) {
        let Ok(target) = fs::read_link(file) else { continue };
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        // The first that is found: of a server and its workers, the server is the older.
        if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
            owners.entry(inode).or_insert(pid);
            if owners.len() == inodes.len() {
                break;
            }
        }
    }
    owners
}

fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&name);
    let name: String = name.chars().filter(|char| !char.is_control()).take(MAX_NAME_CHARS).collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_read_from_the_kernels_tables() {
        let cases = [
            (
                "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 f 100",
                Some(Listener { address: Ipv4Addr::UNSPECIFIED.into(), port: 8080, inode: 4242 }),
            ),
            (
                "   1: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 f 100",
                Some(Listener { address: Ipv4Addr::LOCALHOST.into(), port: 5000, inode: 7 }),
            ),
            (
                "   2: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 9 1 f",
                Some(Listener { address: Ipv6Addr::LOCALHOST.into(), port: 3000, inode: 9 }),
            ),
            // One that is connected.
            ("   3: 0100007F:1388 0100007F:9C40 01 00000000:00000000 00:00000000 00000000 0 0 8 1 f", None),
            ("   4: 0100007F 00000000:0000 0A", None),
            ("nonsense", None),
            ("", None),
        ];
        for (line, expected) in cases {
            // The cases are of a little-endian machine.
            if cfg!(target_endian = "little") {
                assert_eq!(parse(line), expected, "{line}");
            }
        }
    }
}
