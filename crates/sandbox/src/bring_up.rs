//! Making the container of a spec run: taken as it is, started again, or made anew.

use std::{sync::Arc, time::Duration};

use bollard::{
    errors::Error as EngineError, models::ContainerInspectResponse, query_parameters::CreateContainerOptionsBuilder,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    Egress, Error, Limits, Network, Sandbox, Spec,
    container::{self, LABEL_BAY, LABEL_INSTALLATION, LABEL_SPEC},
    guest::Guest,
    place::Place,
    sandboxes::{Inner, PING_LIMIT},
    slot::Slot,
};

impl Inner {
    /// Makes the container of `spec` run, reusing what is there. The caller holds the slot.
    pub(crate) async fn bring_up(&self, spec: &Spec, slot: &Slot) -> Result<Sandbox, Error> {
        let deadline = Instant::now() + self.options.start_deadline;
        loop {
            if let Some(sandbox) = self.take_or_make(spec, slot, deadline).await? {
                return Ok(sandbox);
            }
        }
    }

    /// As [`bring_up`](Self::bring_up); `None` if there is a container meanwhile: of another server, or of somebody who did
    /// not wait until it was made.
    async fn take_or_make(&self, spec: &Spec, slot: &Slot, deadline: Instant) -> Result<Option<Sandbox>, Error> {
        let image_id = self.image_id(spec).await?;
        let hash = container::spec_hash(&self.options, spec, self.limits(spec), &image_id);
        let standard = self.standard_hash(spec, &image_id);
        let place = Place::of(spec);
        let directories = self.directories(&place);
        self.make(&directories)?;

        let existing = self.inspect(&place).await?;
        if let Some(existing) = existing {
            let is_made_from = self.is_made_from(&existing, spec, &hash, &standard);
            let id = existing.id.unwrap_or_default();
            let labels = existing.config.and_then(|config| config.labels).unwrap_or_default();
            if labels.get(LABEL_INSTALLATION) != Some(&self.options.installation) {
                return Err(self.start_failed(
                    spec,
                    "its name is taken by a container that is not ours",
                    String::new(),
                ));
            }
            if is_made_from {
                // Its packets pass rules that somebody may have flushed.
                self.network(spec).await?;
                if existing.state.and_then(|state| state.running).unwrap_or(false) {
                    let sandbox = self.sandbox(&place, &id, slot)?;
                    match sandbox.ping(PING_LIMIT).await {
                        Ok(_) => return Ok(Some(sandbox)),
                        Err(Error::Gone) => {}
                        // Not the container's fault, and so no reason to throw away what it is doing.
                        Err(err) => return Err(err),
                    }
                } else if self.attach_bay(labels.get(LABEL_BAY), &directories)
                    && let Ok(sandbox) = self.start(spec, &id, slot).await
                {
                    // Stopped while idle: what was installed into it is still there.
                    return Ok(Some(sandbox));
                }
            }
            self.delete(&id).await?;
        }
        if let Some(ready) = self.pool.take(spec.network, &standard)
            && let Some(sandbox) = self.hand_out(ready, spec, slot, &directories).await
        {
            return Ok(Some(sandbox));
        }
        let network = self.network(spec).await?;
        let body = container::body(&self.options, spec, self.limits(spec), &directories, &network, &hash);
        let name = place.name(&self.options.installation);
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = loop {
            match self.engine.create_container(Some(options.clone()), body.clone()).await {
                Ok(created) => break created.id,
                // A container that somebody else is removing keeps its name until it is gone.
                Err(EngineError::DockerResponseServerError { status_code: 409, .. }) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                    if self.inspect(&place).await?.is_some() {
                        return Ok(None);
                    }
                }
                Err(EngineError::DockerResponseServerError { message, .. }) => {
                    return Err(self.start_failed(spec, &message, String::new()));
                }
                Err(err) => return Err(Error::NoEngine(err)),
            }
        };
        let started = self.start(spec, &id, slot).await;
        if started.is_err() {
            self.delete(&id).await?;
        }
        started.map(Some)
    }

    /// Gives the id of the image that `spec` names.
    ///
    /// # Errors
    /// `ImageRefused`, `NoImage`.
    pub(crate) async fn image_id(&self, spec: &Spec) -> Result<String, Error> {
        let image = match &spec.built {
            Some(built) => self.check_built(built).await?,
            None => self.check_named(spec.image_in(&self.options)).await?,
        };
        Ok(image.id.unwrap_or_default())
    }

    /// Hashes what a container of `spec` is made from if it waits for its environment: with the limits of a standard one,
    /// whatever it is given later.
    pub(crate) fn standard_hash(&self, spec: &Spec, image_id: &str) -> String {
        let limits = self.limits(&Spec { limits: None, ..spec.clone() });
        container::spec_hash(&self.options, spec, limits, image_id)
    }

    /// Tells whether a container was made from `spec`, or waited for it and was given its limits.
    fn is_made_from(&self, existing: &ContainerInspectResponse, spec: &Spec, hash: &str, standard: &str) -> bool {
        let labels = existing.config.as_ref().and_then(|config| config.labels.as_ref());
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).map(String::as_str);
        match (label(LABEL_SPEC), label(LABEL_BAY)) {
            (made_from, None) => made_from == Some(hash),
            (made_from, Some(_)) => {
                let host = existing.host_config.as_ref();
                made_from == Some(standard) && host.is_some_and(|host| container::has_limits(host, self.limits(spec)))
            }
        }
    }

    /// Starts a container that exists and waits for its daemon.
    async fn start(&self, spec: &Spec, id: &str, slot: &Slot) -> Result<Sandbox, Error> {
        let place = Place::of(spec);
        let _start = self.starts.acquire().await.expect("the semaphore is never closed");
        let deadline = Instant::now() + self.options.start_deadline;
        self.directories(&place).renew_run(&self.options.user).await?;
        match timeout_at(deadline, self.engine.start_container(id, None)).await {
            Ok(Ok(())) => {}
            Ok(Err(EngineError::DockerResponseServerError { message, .. })) => {
                return Err(self.start_failed(spec, &message, self.log(id).await));
            }
            Ok(Err(err)) => return Err(Error::NoEngine(err)),
            Err(_) => return Err(self.start_failed(spec, "the engine does not start it in time", self.log(id).await)),
        }
        let mut polls = 0u32;
        loop {
            let sandbox = self.sandbox(&place, id, slot)?;
            if sandbox.ping(PING_LIMIT).await.is_ok() {
                return Ok(sandbox);
            }
            if Instant::now() > deadline {
                return Err(self.start_failed(spec, "its daemon does not answer in time", self.log(id).await));
            }
            polls += 1;
            // Whether it still runs is asked seldom: each time costs as much as the start of the daemon.
            if polls.is_multiple_of(100) && !self.is_running(&place).await? {
                return Err(self.start_failed(spec, "its daemon ends at once", self.log(id).await));
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Gives the engine's name of the network that `spec` wants, ready and filtered.
    pub(crate) async fn network(&self, spec: &Spec) -> Result<String, Error> {
        if spec.network != Network::Open {
            return Ok("none".to_owned());
        }
        match self.bridge.ensure(&self.engine).await? {
            Egress::NotEnforced(reason) if !self.options.allow_unfiltered_egress => Err(Error::Unfiltered(reason)),
            Egress::Enforced | Egress::NotEnforced(_) => Ok(self.bridge.name.clone()),
        }
    }

    pub(crate) fn limits(&self, spec: &Spec) -> Limits {
        let limits = spec.limits.unwrap_or(self.options.sizes.standard);
        Limits { cpus: limits.cpus.min(self.cores), ..limits }
    }

    pub(crate) fn sandbox(&self, place: &Place, id: &str, slot: &Slot) -> Result<Sandbox, Error> {
        let run = self.directories(place).run;
        let guest = Guest::new(&run).map_err(|err| Error::other(format!("cannot open '{}'", run.display()), err))?;
        Ok(Sandbox::new(place.environment.clone(), id.to_owned(), guest, Arc::clone(&slot.uses)))
    }

    /// Gives the way to a container of ours that runs, whatever it was made from and whoever started it. Its uses count
    /// for `slot`.
    pub(crate) async fn adopt(&self, place: &Place, slot: &Slot) -> Result<Option<Sandbox>, Error> {
        match self.ours(place).await? {
            // Not put into its slot: whoever opens it looks at what it was made from.
            Some((id, true)) => self.sandbox(place, &id, slot).map(Some),
            Some((_, false)) | None => Ok(None),
        }
    }

    fn start_failed(&self, spec: &Spec, reason: &str, log: String) -> Error {
        Error::StartFailed { environment: spec.environment.clone(), reason: reason.to_owned(), log }
    }
}
