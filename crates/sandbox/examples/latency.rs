//! Measures what a sandbox adds to the work itself, beside the engine's own way: medians and 95th percentiles.
//!
//! `cargo run --release -p sandbox --example latency -- target/guestd/guestd`

use std::time::{Duration, Instant};

use bollard::{Docker, exec::StartExecResults, models::ExecConfig};
use domain::EnvironmentId;
use futures::StreamExt;
use sandbox::{Command, Error, Network, Options, Sandbox, Sandboxes, Spec};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let guestd = std::env::args().nth(1).unwrap_or_else(|| "target/guestd/guestd".to_owned());
    let data = tempfile::tempdir()?;
    let options = Options {
        data_dir: data.path().to_owned(),
        installation: format!("latency-{}", std::process::id()),
        guestd: std::path::absolute(guestd)?,
        ..Options::default()
    };
    let sandboxes = Sandboxes::connect(options).await?;
    let result = measure(&sandboxes).await;
    sandboxes.stop_all().await?;
    result
}

async fn measure(sandboxes: &Sandboxes) -> Result<(), Box<dyn std::error::Error>> {
    let environment = EnvironmentId::generate();
    let spec = Spec {
        environment: environment.clone(),
        image: None,
        built: None,
        network: Network::None,
        limits: None,
        env: vec![],
    };
    let cold = times(10, async || {
        sandboxes.open(&spec).await?;
        let stopping = Instant::now();
        sandboxes.stop(&environment).await?;
        Ok(stopping.elapsed())
    });
    print("open, cold", &cold.await?);
    let sandbox = sandboxes.open(&spec).await?;
    sandbox.write_file("/workspace/file", &[7; 4096]).await?;
    let none = async |done: Result<(), Error>| done.map(|()| Duration::ZERO);

    print("open, running", &times(1000, async || none(sandboxes.open(&spec).await.map(drop)).await).await?);
    print("request without work", &times(500, async || none(sandbox.background("none").await.map(drop)).await).await?);
    let read = times(500, async || none(sandbox.read_file("/workspace/file", 0, 10_000).await.map(drop)).await);
    print("read 4 KiB", &read.await?);
    let write = times(500, async || none(sandbox.write_file("/workspace/new", &[7; 4096]).await.map(drop)).await);
    print("write 4 KiB", &write.await?);
    print("true", &times(300, async || none(run(&sandbox, &["true"]).await).await).await?);
    print("bash -c true", &times(300, async || none(run(&sandbox, &["bash", "-c", "true"]).await).await).await?);
    let apart = times(300, async || {
        // As an agent's calls come: a model answers in between. The pause is not part of it.
        let paused = Instant::now();
        tokio::time::sleep(Duration::from_millis(5)).await;
        let pause = paused.elapsed();
        run(&sandbox, &["bash", "-c", "true"]).await.map(|()| pause)
    });
    print("bash -c true, now and then", &apart.await?);
    let host = times(300, async || {
        let status = tokio::process::Command::new("bash").args(["-c", "true"]).status().await;
        status.map(|_| Duration::ZERO).map_err(|_| Error::Gone)
    });
    print("bash -c true on the host", &host.await?);
    let engine = Docker::connect_with_defaults()?.negotiate_version().await?;
    let exec = times(20, async || {
        docker_exec(&engine, sandbox.container()).await.map(|()| Duration::ZERO).map_err(|_| Error::Gone)
    });
    print("bash -c true by docker exec", &exec.await?);
    let output = times(5, async || none(run(&sandbox, &["head", "-c", "100000000", "/dev/zero"]).await).await);
    print("100 MB of output", &output.await?);
    Ok(())
}

async fn run(sandbox: &Sandbox, argv: &[&str]) -> Result<(), Error> {
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    let mut process = sandbox.spawn(Command { argv, group: "latency".to_owned(), ..Command::default() }).await?;
    while process.next().await?.is_some() {}
    Ok(())
}

async fn docker_exec(engine: &Docker, container: &str) -> Result<(), bollard::errors::Error> {
    let config = ExecConfig {
        cmd: Some(["bash", "-c", "true"].map(str::to_owned).to_vec()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..ExecConfig::default()
    };
    let exec = engine.create_exec(container, config).await?;
    if let StartExecResults::Attached { mut output, .. } = engine.start_exec(&exec.id, None).await? {
        while output.next().await.is_some() {}
    }
    engine.inspect_exec(&exec.id).await?;
    Ok(())
}

/// Times `work` again and again; what it gives is taken off.
async fn times(count: usize, mut work: impl AsyncFnMut() -> Result<Duration, Error>) -> Result<Vec<Duration>, Error> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let off = work().await?;
        times.push(started.elapsed() - off);
    }
    times.sort();
    Ok(times)
}

fn print(what: &str, times: &[Duration]) {
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1000.0;
    println!("{what:<32} median {:9.3} ms   p95 {:9.3} ms   n={}", at(50), at(95), times.len());
}
