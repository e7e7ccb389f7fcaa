//! A connection of the host to a port of this container.
//!
//! It is how the host reaches a server here whatever network the container has, also none. One block is under way in each
//! direction at most: whoever does not read holds up who writes, all the way through.

use std::{cell::Cell, io, time::Duration};

use guest_protocol::{Failure, FailureCode, Frame, Kind, MAX_DATA, MAX_FORWARDS, Reply};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::{
    connection::{Block, Incoming, Outgoing},
    ports,
};

/// Within one machine a connection is made at once or never.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Counts the connections that are open.
#[derive(Debug, Default)]
pub(crate) struct Forwards(Cell<usize>);

impl Forwards {
    pub(crate) fn open(&self) -> u64 {
        self.0.get() as u64
    }

    fn take(&self) -> Option<Place<'_>> {
        let is_free = self.0.get() < MAX_FORWARDS;
        is_free.then(|| {
            self.0.set(self.0.get() + 1);
            Place(&self.0)
        })
    }
}

/// A place among them, given back when dropped.
struct Place<'a>(&'a Cell<usize>);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Connects to `port` and passes on what either side sends, until both have ended or one is gone.
pub(crate) async fn run(forwards: &Forwards, port: u16, mut host: Incoming, mut out: Outgoing) -> io::Result<()> {
    let Some(_place) = forwards.take() else {
        let message = format!("port {port}: {MAX_FORWARDS} connections are open");
        return out.reply(&Reply::Failed(Failure { code: FailureCode::Exhausted, message })).await;
    };
    let stream = match connect(port).await {
        Ok(stream) => stream,
        Err(failed) => return out.reply(&Reply::Failed(failed)).await,
    };
    let (reading, writing) = stream.into_split();
    out.reply(&Reply::Connected).await?;

    let (host_ended, port_ended) = (Cell::new(false), Cell::new(false));
    let mut inward = std::pin::pin!(inward(&mut host, writing, &host_ended, &port_ended));
    tokio::select! {
        // The host is gone, or makes no sense: dropping the rest closes both connections.
        () = &mut inward => Ok(()),
        sent = outward(reading, &mut out) => {
            sent?;
            port_ended.set(true);
            if !host_ended.get() {
                inward.await;
            }
            Ok(())
        }
    }
}

async fn connect(port: u16) -> Result<TcpStream, Failure> {
    let mut why = "nothing listens".to_owned();
    for address in ports::addresses(port) {
        match timeout(CONNECT_LIMIT, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => {
                // What the host sends in pieces is meant to arrive in pieces.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(err)) => why = err.to_string(),
            Err(_) => why = "it does not accept connections".to_owned(),
        }
    }
    Err(Failure { code: FailureCode::Refused, message: format!("port {port}: {why}") })
}

/// Passes on what the host sends. Ends when the host is gone, or when both sides have ended.
async fn inward(host: &mut Incoming, writing: OwnedWriteHalf, host_ended: &Cell<bool>, port_ended: &Cell<bool>) {
    let mut writing = Some(writing);
    while let Ok(Some(Frame { kind, body })) = host.next().await {
        match kind {
            Kind::Data if !host_ended.get() => {
                let Some(port) = &mut writing else { continue };
                let written = tokio::select! {
                    written = port.write_all(&body) => written,
                    () = host.closed() => return,
                };
                // It takes no more, but may have answered: that is still passed on.
                if written.is_err() {
                    writing = None;
                }
            }
            Kind::End if !host_ended.get() => {
                // Dropped, it says so to the port's side.
                writing = None;
                host_ended.set(true);
                if port_ended.get() {
                    return;
                }
            }
            _ => return,
        }
    }
}

/// Passes on what the port's side sends, and its end. Ends with an error when it was reset, and no `End` is sent.
async fn outward(mut reading: OwnedReadHalf, out: &mut Outgoing) -> io::Result<()> {
    let mut block = Block::new();
    loop {
        match reading.read(&mut block.body()[..MAX_DATA]).await? {
            0 => return out.end().await,
            len => out.send(Kind::Data, &mut block, len).await?,
        }
    }
}
