//! What listens in a container, and connections to it.

use guest_protocol::{Reply, Request};

use crate::{
    Error, Forward, Sandbox,
    guest::{ANSWER_LIMIT, unexpected},
};

/// Of a list that is longer than our daemon's, nothing is believed beyond this.
const MAX_PORTS: usize = 256;
const MAX_NAME_CHARS: usize = 64;

/// A TCP port that something in a container listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub port: u16,
    /// The process that listens, by its number in the container.
    pub pid: Option<u32>,
    /// What that process calls itself.
    pub process: Option<String>,
}

impl Sandbox {
    /// Lists the TCP ports that something in the container listens on, in their order.
    pub async fn ports(&self) -> Result<Vec<Port>, Error> {
        let Reply::Ports { ports } = self.call(&Request::Ports, ANSWER_LIMIT).await? else { return Err(unexpected()) };
        let clean = |name: String| name.chars().filter(|char| !char.is_control()).take(MAX_NAME_CHARS).collect();
        let mut ports: Vec<Port> = ports
            .into_iter()
            .take(MAX_PORTS)
            .map(|port| Port { port: port.port, pid: port.pid, process: port.process.map(clean) })
            .collect();
        ports.sort_by_key(|port| port.port);
        ports.dedup_by_key(|port| port.port);
        Ok(ports)
    }

    /// Connects to what listens on a port of the container, whatever network that has. Counts as use until it is dropped.
    ///
    /// # Errors
    /// `NotListening`; `Other` when the container has as many connections as it may.
    pub async fn connect(&self, port: u16) -> Result<Forward, Error> {
        let in_use = self.uses().command();
        let mut connection = self.ask(&Request::Connect { port }).await?;
        match self.note(connection.reply(ANSWER_LIMIT).await)? {
            Reply::Connected => Ok(Forward::new(connection, in_use)),
            _ => Err(unexpected()),
        }
    }
}
