//! The image of a run's computer: made sure of before the computer starts.
//!
//! A run waits for the build that its environment needs, and says so in its log: one line a step. A build that failed is
//! not tried again while there is an image that went well before; without one it is, since nothing can be done anyway.

use domain::{
    build::{Build, BuildStatus},
    environment::Environment,
    event::{Event, LogLevel},
};
use sandbox::Plan;
use store::builds::{NewBuild, Reuse};
use tokio::time::Instant;

use crate::{drive::Driver, error::End, stop::Stop};

/// What the lines of a build belong to, for those who read the log.
const TOPIC: &str = "setup";

impl Driver<'_> {
    /// Tells whether the environment has the image that its settings ask for. Where that cannot be told, it has not, and
    /// [`prepare_image`](Self::prepare_image) says why.
    pub(crate) async fn has_image(&self, environment: &Environment) -> bool {
        let latest = environment.build.latest.as_ref().filter(|latest| latest.status == BuildStatus::Ready);
        match self.parts.sandboxes.plan(environment).await {
            Ok(None) => true,
            Ok(Some(plan)) => {
                let is_latest = latest.is_some_and(|latest| latest.hash == plan.hash);
                is_latest && self.parts.sandboxes.has_image(&plan.image).await.unwrap_or(false)
            }
            Err(_) => false,
        }
    }

    /// Makes sure that the environment has its image, and notes it in `environment`.
    pub(crate) async fn prepare_image(&mut self, environment: &mut Environment) -> Result<(), End> {
        let Some(plan) = self.plan(environment).await? else { return Ok(()) };
        let build = self.request_image(environment, &plan).await?;
        let build = if build.status.is_under_way() { self.wait_for(build).await? } else { build };
        match (build.status, &environment.build.image) {
            (BuildStatus::Ready, _) => environment.build.image = Some(build.image.clone()),
            (_, Some(_)) => {
                let reason = first_line(build.error.as_deref());
                let message = format!("The environment's image could not be built ({reason}); the one before is used.");
                self.log(LogLevel::Warning, TOPIC, message).await?;
            }
            (BuildStatus::Cancelled, None) => {
                return Err(End::failed("build_failed", "The build of the environment's image was cancelled."));
            }
            (_, None) => {
                let reason = build.error.as_deref().unwrap_or("it does not say why");
                let message = format!("The environment's image could not be built: {reason}");
                return Err(End::failed("build_failed", message));
            }
        }
        environment.build.latest = Some(build);
        Ok(())
    }

    async fn plan(&self, environment: &Environment) -> Result<Option<Plan>, End> {
        self.parts.sandboxes.plan(environment).await.map_err(|err| match err {
            err @ sandbox::Error::CannotBuild(_) => {
                let message = format!("The environment's image cannot be built. {err}.");
                End::caused("build_failed", message)(err)
            }
            err => {
                let message = format!("The computer cannot be used: {err}.");
                End::caused("computer_unavailable", message)(err)
            }
        })
    }

    async fn has(&self, plan: &Plan) -> Result<bool, End> {
        let has = self.parts.sandboxes.has_image(&plan.image).await;
        has.map_err(|err| End::caused("computer_unavailable", format!("The computer cannot be used: {err}."))(err))
    }

    async fn request_image(&mut self, environment: &Environment, plan: &Plan) -> Result<Build, End> {
        if !self.has(plan).await? {
            self.parts.store.forget_image(&plan.hash).await?;
        }
        let new = NewBuild {
            hash: plan.hash.clone(),
            image: plan.image.clone(),
            base: plan.base.clone(),
            dockerfile: plan.dockerfile.clone(),
        };
        // The image in use may be gone from the engine, and then it is no way out.
        let has_other = match &environment.build.image {
            Some(image) => self.parts.sandboxes.has_image(image).await.unwrap_or(false),
            None => false,
        };
        let reuse = if has_other { Reuse::Any } else { Reuse::Good };
        Ok(self.parts.store.request_build(&self.run.project_id, &environment.id, &new, reuse).await?)
    }

    /// Waits for the end of a build and tells of its steps.
    async fn wait_for(&mut self, mut build: Build) -> Result<Build, End> {
        let began_at = Instant::now();
        self.log(LogLevel::Info, TOPIC, "The environment's image is being built.".to_owned()).await?;
        let (mut read, mut line) = (0, String::new());
        while build.status.is_under_way() {
            tokio::select! {
                biased;
                stop = self.signal.stopped() => return Err(stop.into()),
                () = self.soft.cancelled() => return Err(Stop::ShuttingDown.into()),
                () = tokio::time::sleep(self.parts.options.poll) => {}
            }
            // Before its log: what was said before the end is there once the end is.
            let found = self.parts.store.find_build(&build.id).await?;
            build = found.ok_or_else(|| End::failed("build_failed", "The environment's build is gone."))?;
            let mut steps = Vec::new();
            for piece in self.parts.store.list_build_log(&build.id, read).await? {
                read = piece.number;
                line += &piece.text;
                while let Some(end) = line.find('\n') {
                    steps.extend(step(&line[..end]));
                    line.drain(..=end);
                }
            }
            let topic = TOPIC.to_owned();
            let events =
                steps.into_iter().map(|message| Event::Log { level: LogLevel::Info, topic: topic.clone(), message });
            self.record_all(events.collect()).await?;
        }
        if build.status == BuildStatus::Ready {
            let message = format!("The environment's image is ready ({} s).", began_at.elapsed().as_secs());
            self.log(LogLevel::Success, TOPIC, message).await?;
        }
        Ok(build)
    }
}

/// Gives the line that tells of a step, if it is one, short enough to be read.
fn step(line: &str) -> Option<String> {
    line.starts_with("Step ").then(|| match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    })
}

fn first_line(error: Option<&str>) -> &str {
    error.and_then(|error| error.lines().next()).unwrap_or("it does not say why").trim_end_matches('.')
}
