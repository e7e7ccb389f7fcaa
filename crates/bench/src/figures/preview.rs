//! A request to what listens in an environment: through a preview, beside one that is made where it listens.

use std::time::Duration;

use anyhow::{Context, ensure};
use sandbox::{Command, Sandbox, Stream};

use super::Bench;
use crate::{report::Bound::AtMost, samples::Samples};

const PORT: u16 = 8000;
/// Requests of one curl, which counts the time of each without its own start.
const REQUESTS: usize = 10;
/// What listens starts within this many tries, a tenth of a second apart.
const TRIES: u32 = 300;

impl Bench<'_> {
    pub(super) async fn preview(&mut self, environment: &str) -> anyhow::Result<()> {
        let url = self.system.client.preview(environment, PORT).await?;
        let sandbox = self.system.sandbox(environment).await?;
        let argv = ["python3", "-m", "http.server", "8000", "--directory", "/tmp"].map(str::to_owned).to_vec();
        let server = Command { argv, group: "bench".to_owned(), ..Command::default() };
        let task = sandbox.start_background(server, "/dev/null").await?;
        for attempt in 0.. {
            if sandbox.connect(PORT).await.is_ok() {
                break;
            }
            ensure!(attempt < TRIES, "the server in the container does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let (mut through, mut inside) = (Samples::default(), Samples::default());
        for _ in 0..self.count(20) {
            let curl = curl(&url);
            let (program, arguments) = curl.split_first().context("curl")?;
            let output = tokio::process::Command::new(program).args(arguments).output().await?;
            take(&mut through, &String::from_utf8_lossy(&output.stdout))?;
            take(&mut inside, &run(&sandbox, curl_inside()).await?)?;
        }
        sandbox.stop_background(&task).await?;
        let direct = inside.median();
        let baseline = Some(("inside the container", direct));
        let aim = ("inside + 3 ms", AtMost(direct + 3.0));
        self.report.add("request through a preview", "ms", &through, baseline, Some(aim));
        Ok(())
    }
}

fn curl_inside() -> Vec<String> {
    curl(&format!("http://127.0.0.1:{PORT}/"))
}

/// The command that makes requests one after the other and tells how many seconds each took.
fn curl(url: &str) -> Vec<String> {
    let mut argv: Vec<String> = ["curl", "--silent", "--fail", "--noproxy", "*"].map(str::to_owned).to_vec();
    argv.extend(["--write-out", "\n@%{time_total}\n"].map(str::to_owned));
    argv.extend(std::iter::repeat_n(url.to_owned(), REQUESTS));
    argv
}

fn take(samples: &mut Samples, output: &str) -> anyhow::Result<()> {
    let times: Vec<f64> = output.lines().filter_map(|line| line.strip_prefix('@')?.parse().ok()).collect();
    ensure!(times.len() == REQUESTS, "a request failed: {output}");
    times.into_iter().for_each(|seconds| samples.took(Duration::from_secs_f64(seconds)));
    Ok(())
}

async fn run(sandbox: &Sandbox, argv: Vec<String>) -> anyhow::Result<String> {
    let mut process = sandbox.spawn(Command { argv, group: "bench".to_owned(), ..Command::default() }).await?;
    let mut output = Vec::new();
    while let Some(chunk) = process.next().await? {
        if chunk.stream == Stream::Stdout {
            output.extend_from_slice(&chunk.bytes);
        }
    }
    Ok(String::from_utf8_lossy(&output).into_owned())
}
