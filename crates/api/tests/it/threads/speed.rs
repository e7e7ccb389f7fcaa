//! How long a client waits for the first byte. Prints; asserts nothing about time.

use std::time::{Duration, Instant};

use super::*;

const RUNS: usize = 100;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn from_a_message_to_the_first_byte_of_its_stream() {
    let app = App::start_with(|settings| settings.requests_per_window = 0).await;
    let pool = app.database.pool().await;
    let (mut commits, mut streams) = (Vec::new(), Vec::new());
    for n in 0..RUNS {
        let thread = app.thread().await;
        // Interleaved, so that both meet the same machine.
        let began_at = Instant::now();
        sqlx::query("update projects set name = $1").bind(n.to_string()).execute(&pool).await.expect("writes");
        commits.push(began_at.elapsed());
        let began_at = Instant::now();
        let mut reader = app.send_message(&thread, "Hello").await;
        reader.until("data: ").await;
        streams.push(began_at.elapsed());
    }
    println!("one commit: {:?}; POST to the first byte: {:?} (medians of {RUNS})", median(commits), median(streams));
}
