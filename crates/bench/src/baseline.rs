//! What the machine itself costs: a process, a commit, the engine's own ways.

use anyhow::{Context, ensure};
use bollard::{
    Docker,
    exec::StartExecResults,
    models::{ContainerCreateBody, ExecConfig, HostConfig},
    query_parameters::RemoveContainerOptionsBuilder,
};
use domain::EnvironmentId;
use futures::StreamExt;
use sandbox::{Command, Network, Sandbox, Sandboxes, Spec};

use crate::{
    database::Database,
    samples::{Samples, timed},
    system::System,
};

const IMAGE: &str = "atelier-workspace:latest";

/// Everything that figures are compared with. What it made on the engine goes with [`System`].
pub(crate) struct Baselines {
    pub database: Database,
    engine: Docker,
    sandbox: Sandbox,
    label: String,
    _data: tempfile::TempDir,
}

/// Samples taken in turns with those of a figure.
#[derive(Debug, Default)]
pub(crate) struct Costs {
    /// fork and exec of `bash -c true` on the host.
    pub host_bash: Samples,
    /// One row, one commit.
    pub commit: Samples,
    /// `bash -c true` in a container through our daemon.
    pub guest_bash: Samples,
    /// `bash -c true` in the same container through the engine.
    pub engine_bash: Samples,
}

impl Baselines {
    pub(crate) async fn prepare(system: &System) -> anyhow::Result<Self> {
        let label = system.own_installation();
        let data = tempfile::Builder::new().prefix("atelier-bench-").tempdir()?;
        let options = sandbox::Options {
            data_dir: data.path().to_owned(),
            installation: label.clone(),
            guestd: system.guestd.clone(),
            ..sandbox::Options::default()
        };
        let sandboxes = Sandboxes::connect(options).await?;
        let spec = Spec {
            environment: EnvironmentId::generate(),
            image: None,
            built: None,
            network: Network::None,
            limits: None,
            env: Vec::new(),
        };
        let sandbox = sandboxes.open(&spec).await?;
        let engine = Docker::connect_with_defaults()?.negotiate_version().await?;
        Ok(Self { database: Database::create(system.data()).await?, engine, sandbox, label, _data: data })
    }

    /// Takes a few samples of each cost.
    pub(crate) async fn sample(&mut self, costs: &mut Costs, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            timed(&mut costs.host_bash, host_bash()).await?;
            timed(&mut costs.commit, self.database.commit()).await?;
            timed(&mut costs.guest_bash, guest_bash(&self.sandbox)).await?;
        }
        // It takes long, and its exact time matters little.
        timed(&mut costs.engine_bash, self.engine_bash()).await
    }

    /// Makes and starts a container as the engine does it, and removes it after the clock has stopped.
    pub(crate) async fn create_and_start(&self, samples: &mut Samples) -> anyhow::Result<()> {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            entrypoint: Some(vec!["sleep".to_owned(), "600".to_owned()]),
            labels: Some([("atelier.installation".to_owned(), self.label.clone())].into()),
            host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let id = timed(samples, async {
            let container = self.engine.create_container(None, body).await?;
            self.engine.start_container(&container.id, None).await?;
            Ok(container.id)
        })
        .await?;
        let force = RemoveContainerOptionsBuilder::new().force(true).build();
        self.engine.remove_container(&id, Some(force)).await.context("cannot remove a container")
    }

    async fn engine_bash(&self) -> anyhow::Result<()> {
        let config = ExecConfig {
            cmd: Some(["bash", "-c", "true"].map(str::to_owned).to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let exec = self.engine.create_exec(self.sandbox.container(), config).await?;
        if let StartExecResults::Attached { mut output, .. } = self.engine.start_exec(&exec.id, None).await? {
            while output.next().await.is_some() {}
        }
        let ended = self.engine.inspect_exec(&exec.id).await?;
        ensure!(ended.exit_code == Some(0), "the engine's exec failed");
        Ok(())
    }
}

async fn host_bash() -> anyhow::Result<()> {
    let status = tokio::process::Command::new("bash").args(["-c", "true"]).status().await?;
    ensure!(status.success(), "bash ended with {status}");
    Ok(())
}

async fn guest_bash(sandbox: &Sandbox) -> anyhow::Result<()> {
    let argv = ["bash", "-c", "true"].map(str::to_owned).to_vec();
    let mut process = sandbox.spawn(Command { argv, group: "bench".to_owned(), ..Command::default() }).await?;
    while process.next().await?.is_some() {}
    Ok(())
}
