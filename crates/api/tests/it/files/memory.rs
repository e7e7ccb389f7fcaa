//! Memory stays flat, whatever the size of a file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, header},
};
use futures::StreamExt;
use tower::ServiceExt;

use super::{BOUNDARY, Files};

const SIZE: u64 = 256 * 1024 * 1024;
const CHUNK: usize = 256 * 1024;
const MOST: u64 = 16 * 1024 * 1024;

/// Bytes of memory this process has now.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("reads");
    let pages: u64 = text.split(' ').nth(1).expect("a field").parse().expect("a number");
    pages * 4096
}

/// Notes the most memory this process has until it is stopped.
struct Watch {
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    before: u64,
}

impl Watch {
    fn begin() -> Self {
        let watch = Self { most: Arc::default(), is_over: Arc::default(), before: resident() };
        let (most, is_over) = (Arc::clone(&watch.most), Arc::clone(&watch.is_over));
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        watch
    }

    fn growth(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.most.load(Ordering::Relaxed).max(resident()).saturating_sub(self.before)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_goes_both_ways_through_little_memory() {
    let files = Files::start().await;
    // What a first request needs is there before it is measured.
    files.upload(&[("file", Some("small"), &vec![7; 3 * 1024 * 1024])]).await.ok();
    files.get("/small").await;

    let chunk = bytes::Bytes::from((0..CHUNK).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"big\"\r\n\r\n");
    let tail = format!("\r\n--{BOUNDARY}--\r\n");
    let chunks = futures::stream::iter(std::iter::repeat_n(chunk.clone(), SIZE as usize / CHUNK));
    let body = futures::stream::iter([bytes::Bytes::from(head)])
        .chain(chunks)
        .chain(futures::stream::iter([bytes::Bytes::from(tail)]))
        .map(Ok::<_, std::io::Error>);
    let request = Request::post(format!("{}/upload", files.path))
        .header(header::AUTHORIZATION, format!("Bearer {}", files.app.key))
        .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
        .body(Body::from_stream(body))
        .expect("a valid request");
    let watch = Watch::begin();
    let uploaded = files.app.send(request).await.ok();
    let growth = watch.growth();
    assert_eq!(uploaded["size"], SIZE);
    assert!(growth <= MOST, "an upload took {growth} bytes of memory");

    let request = Request::get(format!("{}/download/big", files.path))
        .header(header::AUTHORIZATION, format!("Bearer {}", files.app.key))
        .body(Body::empty())
        .expect("a valid request");
    let watch = Watch::begin();
    let response = files.app.router.clone().oneshot(request).await.expect("the router cannot fail");
    let mut body = response.into_body().into_data_stream();
    let mut at = 0;
    while let Some(part) = body.next().await {
        let part = part.expect("the body ends well");
        let first = usize::try_from(at % CHUNK as u64).expect("is small");
        let same = part.len().min(CHUNK - first);
        assert!(part[..same] == chunk[first..first + same], "other bytes at {at}");
        at += part.len() as u64;
    }
    let growth = watch.growth();
    assert_eq!(at, SIZE);
    assert!(growth <= MOST, "a download took {growth} bytes of memory");
}
