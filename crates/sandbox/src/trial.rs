//! Trying an image: a computer of its own for one script, gone afterwards.

use std::time::Duration;

use domain::{EnvironmentId, build::smoke_test, environment::Environment};

use crate::{Command, Error, Exit, Network, Sandboxes, Spec};

/// How long the script may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How much is kept of what it says.
const MAX_BYTES: usize = 64 * 1024;

/// What came of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    pub is_well: bool,
    pub output: String,
}

impl Sandboxes {
    /// Starts a computer from the image of an environment, without its files and without a network, and looks whether
    /// what the settings ask for is there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn try_image(&self, environment: &Environment) -> Result<Trial, Error> {
        let id = EnvironmentId::generate();
        let spec = Spec { environment: id.clone(), network: Network::None, ..self.spec_of(environment) };
        let tried = self.run_trial(&spec, smoke_test::script(&environment.settings)).await;
        // Whatever came of it; what cannot be removed now, the reconciler removes.
        let removed = self.remove(&id).await;
        let trial = tried?;
        removed.map(|()| trial)
    }

    async fn run_trial(&self, spec: &Spec, script: String) -> Result<Trial, Error> {
        let sandbox = self.open(spec).await?;
        let command = Command {
            argv: vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
            group: "trial".to_owned(),
            timeout: Some(LIMIT),
            ..Command::default()
        };
        let mut process = sandbox.spawn(command).await?;
        let mut output = Vec::new();
        while let Some(chunk) = process.next().await? {
            let room = MAX_BYTES.saturating_sub(output.len());
            output.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(room)]);
        }
        let is_well = matches!(process.exit(), Some(Exit::Code(0)));
        Ok(Trial { is_well, output: String::from_utf8_lossy(&output).into_owned() })
    }
}
