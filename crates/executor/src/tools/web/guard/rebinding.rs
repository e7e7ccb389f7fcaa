//! A name that is public when it is asked for the first time, and private the next: what was checked is what is dialled.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::tools::web::fetch::{self, Fetched};

/// Stands for the internet: the operator lets it be reached, which is all that is asked of an address.
const PUBLIC: &str = "127.0.0.2";
const PRIVATE: &str = "127.0.0.1";

/// Answers in turn what it was told to, behind the same check as every name.
struct Rebinding {
    gate: Gate,
    answers: Mutex<VecDeque<Vec<&'static str>>>,
    asked: Arc<AtomicUsize>,
}

impl Resolve for Rebinding {
    fn resolve(&self, name: Name) -> Resolving {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front().expect("an answer is left");
        let found = answer.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        let admitted = self.gate.admit(&name, found).map_err(Into::into);
        Box::pin(async move { admitted })
    }
}

struct Scene {
    client: Client,
    /// How often names were asked for.
    asked: Arc<AtomicUsize>,
    /// Connections to the public server, and to the canary on the same port.
    reached: [Arc<AtomicUsize>; 2],
    port: u16,
    _servers: [tokio_util::task::AbortOnDropHandle<()>; 2],
}

impl Scene {
    async fn new(answers: &[&[&'static str]], page: &'static str) -> Self {
        let public = TcpListener::bind((PUBLIC, 0)).await.unwrap();
        let port = public.local_addr().unwrap().port();
        let private = TcpListener::bind((PRIVATE, port)).await.unwrap();
        let reached = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
        let serve = |listener: TcpListener, count: &Arc<AtomicUsize>| {
            let count = Arc::clone(count);
            tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.read(&mut [0; 4096]).await;
                    let _ = stream.write_all(page.as_bytes()).await;
                }
            }))
        };
        let servers = [serve(public, &reached[0]), serve(private, &reached[1])];
        let gate = Gate { allowed: [PUBLIC.parse().unwrap()].into(), refusal };
        let asked = Arc::new(AtomicUsize::new(0));
        let answers = Mutex::new(answers.iter().map(|answer| answer.to_vec()).collect());
        let names = Rebinding { gate: gate.clone(), answers, asked: Arc::clone(&asked) };
        let plain = Client::new(Vec::new()).unwrap();
        let client = Client { http: builder(names).build().unwrap(), gate, ..plain };
        Self { client, asked, reached, port, _servers: servers }
    }

    async fn fetch(&self, path: &str) -> Result<String, String> {
        let url = Url::parse(&format!("http://rebinding.example:{}{path}", self.port)).unwrap();
        match fetch::fetch(&self.client, url).await? {
            Fetched::Page(page) => Ok(page.text),
            Fetched::Elsewhere { to, .. } => Ok(format!("to {to}")),
        }
    }

    fn counts(&self) -> (usize, usize, usize) {
        let [public, private] = &self.reached;
        (self.asked.load(Ordering::SeqCst), public.load(Ordering::SeqCst), private.load(Ordering::SeqCst))
    }
}

const PAGE: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";
const AGAIN: &str = "HTTP/1.1 302 Found\r\nlocation: /next\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const REFUSED: &str = "is not on the public internet";

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let scene = Scene::new(&[&[PUBLIC], &[PRIVATE], &[PUBLIC]], PAGE).await;
    assert_eq!(scene.fetch("/").await, Ok("hi".into()));
    // Once: nothing looks the name up a second time between the check and the connection.
    assert_eq!(scene.counts(), (1, 1, 0));
    let said = scene.fetch("/").await.unwrap_err();
    assert!(said.contains(REFUSED), "{said}");
    assert_eq!(scene.fetch("/").await, Ok("hi".into()));
    assert_eq!(scene.counts(), (3, 2, 0));
}

#[tokio::test]
async fn a_name_that_turns_private_under_a_redirect_is_refused() {
    let scene = Scene::new(&[&[PUBLIC], &[PRIVATE]], AGAIN).await;
    let said = scene.fetch("/").await.unwrap_err();
    assert!(said.contains(REFUSED), "{said}");
    assert_eq!(scene.counts(), (2, 1, 0));
}

#[tokio::test]
async fn one_private_address_among_public_ones_is_reason_enough() {
    for answer in [[PUBLIC, PRIVATE], [PRIVATE, PUBLIC]] {
        let scene = Scene::new(&[&answer], PAGE).await;
        let said = scene.fetch("/").await.unwrap_err();
        assert!(said.contains(REFUSED), "{said}");
        assert_eq!(scene.counts(), (1, 0, 0));
    }
}
