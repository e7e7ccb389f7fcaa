//! A server that gives one recorded answer to whatever it is asked, and keeps what that was.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::task::AbortOnDropHandle;

/// A request as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub line: String,
    headers: Vec<String>,
    pub body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter().filter_map(|line| line.split_once(": "));
        headers.find(|(its, _)| its.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

pub(crate) struct Recorded {
    pub base: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _task: AbortOnDropHandle<()>,
}

impl Recorded {
    pub(crate) async fn start(status: &'static str, body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("is bound"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let keeps = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (mut bytes, mut chunk) = (Vec::new(), [0; 8192]);
                let request = loop {
                    let read = stream.read(&mut chunk).await.expect("reads");
                    assert!(read > 0, "the request is whole");
                    bytes.extend_from_slice(&chunk[..read]);
                    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                    let mut lines = head.lines().map(str::to_owned);
                    let line = lines.next().unwrap_or_default();
                    let request = Asked { line, headers: lines.collect(), body: bytes[end + 4..].to_vec() };
                    let length = request.header("content-length").map_or(0, |text| text.parse().expect("a number"));
                    if request.body.len() >= length {
                        break request;
                    }
                };
                keeps.lock().expect("not poisoned").push(request);
                let head =
                    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
                stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{body}").as_bytes()).await.ok();
            }
        });
        Self { base, asked, _task: AbortOnDropHandle::new(task) }
    }

    /// Gives the newest request.
    pub(crate) fn asked(&self) -> Asked {
        self.asked.lock().expect("not poisoned").last().expect("it was asked").clone()
    }

    /// How many requests there were.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().expect("not poisoned").len()
    }
}
