//! Figures to look at, asserted nowhere: they depend on the disk and on what else it does.

use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt, pin_mut};
use sandbox::Error;

use crate::scene::{Scene, at};

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 256 * MIB;

#[tokio::test]
async fn a_large_file_up_and_down() {
    let scene = Scene::new();
    // Twice: the first also pays for the disk's own warming up.
    for _ in 0..2 {
        let chunk = Bytes::from(vec![0x5a; 64 * 1024]);
        let start = Instant::now();
        let mut upload = scene.workspace.upload(&at("large")).await.unwrap();
        for _ in 0..SIZE / chunk.len() as u64 {
            upload.write(chunk.clone()).await.unwrap();
        }
        let taken = start.elapsed();
        upload.commit().await.unwrap();
        print_rate("upload before fsync", taken.as_secs_f64());
        print_rate("upload with fsync", start.elapsed().as_secs_f64());
    }

    let start = Instant::now();
    let file = scene.workspace.open_file(&at("large")).await.unwrap();
    let stream = file.into_stream(0, SIZE).await.unwrap();
    assert_eq!(count(stream).await, SIZE);
    print_rate("download", start.elapsed().as_secs_f64());
}

async fn count(stream: impl Stream<Item = Result<Bytes, Error>>) -> u64 {
    pin_mut!(stream);
    let mut total = 0;
    while let Some(chunk) = stream.next().await {
        total += chunk.unwrap().len() as u64;
    }
    total
}

fn print_rate(what: &str, seconds: f64) {
    println!("{what}: {:.0} MB/s", SIZE as f64 / 1e6 / seconds);
}
