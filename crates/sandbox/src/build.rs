//! Images of environments: from a recipe to a plan that is hashed, and from a plan to an image on the engine.
//!
//! The lines of a build are somebody's commands, so they run as the commands of any container do: on our own filtered
//! bridge, unless the operator names another network. Nothing of the environment but its recipe reaches the build, no
//! variable and no secret: whatever an image holds, whoever has an equal recipe can read.

use std::collections::HashMap;

use bollard::{
    errors::Error as EngineError,
    models::ImageInspect,
    query_parameters::{BuildImageOptions, ListImagesOptionsBuilder, PruneImagesOptionsBuilder, RemoveImageOptions},
};
use bytes::Bytes;
use domain::{build::Recipe, environment::Environment};
use futures::{Stream, StreamExt, TryStreamExt};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Egress, Error, Sandboxes,
    container::hex,
    images::{self, BUILT},
    sandboxes::Inner,
};

/// The installation that an image was built by. Not the label of containers: those of a build take over the labels of what
/// they are made from, and one that is nobody's is removed.
pub(crate) const LABEL_BUILT_BY: &str = "atelier.built-by";

/// The name of a proxy's variable is known to engines; it is given to builds without being declared, and is in no layer.
const PROXIES: [&str; 6] = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];

/// What the engine is given to make an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of everything that the image is made from, the base image's content among it.
    pub hash: String,
    /// The name that the image gets.
    pub image: String,
    pub base: String,
    pub dockerfile: String,
}

impl Sandboxes {
    /// Gives what the image of an environment is made from.
    pub fn recipe_of(&self, environment: &Environment) -> Recipe {
        Recipe::new(&environment.settings, &self.inner.options.builds.site(&self.inner.options.image))
    }

    /// Gives the plan of an environment's image; `None` if it needs none but the base image.
    ///
    /// # Errors
    /// `CannotBuild` if something is wrong with the recipe; `NoImage`, `ImageRefused`, `NoEngine`.
    pub async fn plan(&self, environment: &Environment) -> Result<Option<Plan>, Error> {
        let recipe = self.recipe_of(environment);
        if recipe.is_trivial() {
            return Ok(None);
        }
        if !recipe.errors.is_empty() {
            let errors: Vec<_> = recipe.errors.iter().map(|(field, error)| format!("{field}: {error}")).collect();
            return Err(Error::CannotBuild(errors.join("; ")));
        }
        let base = self.inner.check_named(&recipe.base).await?;
        Ok(Some(self.inner.plan(&recipe, &base.id.unwrap_or_default())))
    }

    /// Tells whether an image that was built is there.
    pub async fn has_image(&self, image: &str) -> Result<bool, Error> {
        match self.inner.find_image(image).await {
            Ok(_) => Ok(true),
            Err(Error::NoImage(_)) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Builds an image and gives what is said meanwhile. The image has its name when the stream has ended without an error;
    /// dropping the stream ends the build.
    ///
    /// # Errors
    /// `BuildFailed` if a step fails; `Unfiltered`, `NoEngine`, `NoImage`.
    pub fn build<'a>(&'a self, plan: &'a Plan) -> impl Stream<Item = Result<String, Error>> + 'a {
        self.inner.build(&plan.base, &plan.dockerfile, Some(&plan.image), false)
    }

    /// Removes an image that was built, unless a container needs it. One that is not there is no error.
    pub async fn remove_image(&self, image: &str) -> Result<(), Error> {
        match self.inner.find_image(image).await {
            Ok(found) if self.inner.is_ours(&found) => {}
            Ok(_) | Err(Error::NoImage(_)) => return Ok(()),
            Err(err) => return Err(err),
        }
        match self.inner.engine.remove_image(image, None::<RemoveImageOptions>, None).await {
            Ok(_) | Err(EngineError::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            Err(err) => Err(Error::other(format!("cannot remove the image '{image}'"), err)),
        }
    }

    /// Removes images of this installation that `wanted` does not name and that are older than a day, and what builds have
    /// left behind. Gives the names of the images.
    pub async fn prune_images(&self, wanted: &[String]) -> Result<Vec<String>, Error> {
        const DAY: i64 = 24 * 60 * 60;
        let engine = &self.inner.engine;
        let label = format!("{LABEL_BUILT_BY}={}", self.inner.options.installation);
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let listed = engine.list_images(Some(ListImagesOptionsBuilder::new().filters(&filters).build())).await;
        let young = chrono::Utc::now().timestamp() - DAY;
        let old = listed.map_err(Error::NoEngine)?.into_iter().filter(|image| image.created < young);
        let mut removed = Vec::new();
        for image in old.flat_map(|image| image.repo_tags) {
            if images::is_built(&image) && !wanted.contains(&image) {
                self.remove_image(&image).await?;
                removed.push(image);
            }
        }
        let filters = HashMap::from([
            ("label", vec![label.as_str()]),
            ("dangling", vec!["true"]),
            // Layers of a build that failed are a start for the next try.
            ("until", vec!["24h"]),
        ]);
        let pruned = engine.prune_images(Some(PruneImagesOptionsBuilder::new().filters(&filters).build())).await;
        pruned.map_err(|err| Error::other("cannot remove what builds have left", err))?;
        Ok(removed)
    }
}

impl Inner {
    fn plan(&self, recipe: &Recipe, base_id: &str) -> Plan {
        #[derive(Serialize)]
        struct Parts<'a> {
            /// Raise it when the same plan gives another image.
            version: u8,
            installation: &'a str,
            base_id: &'a str,
            dockerfile: &'a str,
            certificates: &'a [String],
        }
        let dockerfile = recipe.dockerfile();
        let parts = Parts {
            version: 1,
            installation: &self.options.installation,
            base_id,
            dockerfile: &dockerfile,
            certificates: &self.options.builds.certificates,
        };
        let hash = hex(&Sha256::digest(serde_json::to_vec(&parts).expect("plain values make JSON"))[..16]);
        Plan { image: format!("{BUILT}:{hash}"), hash, base: recipe.base.clone(), dockerfile }
    }

    /// Builds a Dockerfile that begins with `FROM base`. Without a name, what it says is all that it is for.
    pub(crate) fn build<'a>(
        &'a self,
        base: &'a str,
        dockerfile: &'a str,
        image: Option<&'a str>,
        is_fresh: bool,
    ) -> impl Stream<Item = Result<String, Error>> + 'a {
        let started = async move {
            self.check_named(base).await?;
            let network = self.build_network().await?;
            let context = context(&self.labelled(dockerfile), &self.options.builds.certificates);
            let context = context.map_err(|err| Error::other("cannot pack what is built", err))?;
            let options = self.build_options(image, network, is_fresh);
            let said = self.engine.build_image(options, None, Some(bollard::body_full(context)));
            Ok::<_, Error>(said.filter_map(|info| async {
                match info {
                    Ok(info) => match info.error_detail.and_then(|error| error.message) {
                        Some(message) => Some(Err(Error::BuildFailed(message))),
                        None => info.stream.map(|text| Ok(without_colours(&text))),
                    },
                    Err(EngineError::DockerStreamError { error }) => Some(Err(Error::BuildFailed(error))),
                    Err(EngineError::DockerResponseServerError { message, .. }) => {
                        Some(Err(Error::BuildFailed(message)))
                    }
                    Err(err) => Some(Err(Error::NoEngine(err))),
                }
            }))
        };
        futures::stream::once(started).try_flatten()
    }

    fn build_options(&self, image: Option<&str>, network: String, is_fresh: bool) -> BuildImageOptions {
        let limits = self.options.sizes.power;
        let cpus = limits.cpus.min(self.cores);
        // The engine's API has 32 bits for it here.
        let memory = i32::try_from(limits.memory_bytes).unwrap_or(i32::MAX);
        BuildImageOptions {
            t: image.map(str::to_owned),
            networkmode: Some(network),
            buildargs: Some(self.options.builds.variables.iter().cloned().collect()),
            nocache: is_fresh,
            rm: true,
            forcerm: true,
            memory: Some(memory),
            memswap: Some(memory),
            cpuperiod: Some(100_000),
            cpuquota: Some((cpus * 100_000.0) as i32),
            ..BuildImageOptions::default()
        }
    }

    /// Puts our mark into the first layer, so that what a build leaves half done is known as ours.
    fn labelled(&self, dockerfile: &str) -> String {
        let (from, rest) = dockerfile.split_once('\n').unwrap_or((dockerfile, ""));
        format!("{from}\nLABEL {LABEL_BUILT_BY}=\"{}\"\n{rest}", self.options.installation)
    }

    /// Gives the engine's name of the network that builds are on.
    async fn build_network(&self) -> Result<String, Error> {
        if let Some(network) = &self.options.builds.network {
            return Ok(network.clone());
        }
        match self.bridge.ensure(&self.engine).await? {
            Egress::NotEnforced(reason) if !self.options.allow_unfiltered_egress => Err(Error::Unfiltered(reason)),
            Egress::Enforced | Egress::NotEnforced(_) => Ok(self.bridge.name.clone()),
        }
    }

    /// Finds an image by the name that an environment gives.
    ///
    /// # Errors
    /// `ImageRefused` if environments may not use it; `NoImage`, `NoEngine`.
    pub(crate) async fn check_named(&self, image: &str) -> Result<ImageInspect, Error> {
        let is_allowed =
            image == self.options.image || (images::are_among(&self.options.images, image) && !images::is_built(image));
        if is_allowed { self.find_image(image).await } else { Err(Error::ImageRefused(image.to_owned())) }
    }

    /// Finds an image that was built here.
    pub(crate) async fn check_built(&self, image: &str) -> Result<ImageInspect, Error> {
        let found = self.find_image(image).await?;
        if self.is_ours(&found) { Ok(found) } else { Err(Error::ImageRefused(image.to_owned())) }
    }

    async fn find_image(&self, image: &str) -> Result<ImageInspect, Error> {
        match self.engine.inspect_image(image).await {
            Ok(found) => Ok(found),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {
                Err(Error::NoImage(image.to_owned()))
            }
            Err(err) => Err(Error::NoEngine(err)),
        }
    }

    fn is_ours(&self, image: &ImageInspect) -> bool {
        let labels = image.config.as_ref().and_then(|config| config.labels.as_ref());
        labels.is_some_and(|labels| labels.get(LABEL_BUILT_BY) == Some(&self.options.installation))
    }
}

/// Tells whether a variable must be declared in a Dockerfile to hold in it.
pub(crate) fn is_declared(variable: &str) -> bool {
    !PROXIES.contains(&variable)
}

/// Packs what the engine is sent: the Dockerfile, and the certificates beside it.
fn context(dockerfile: &str, certificates: &[String]) -> std::io::Result<Bytes> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |path: &str, content: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, content.as_bytes())
    };
    add("Dockerfile", dockerfile)?;
    for (index, certificate) in certificates.iter().enumerate() {
        add(&format!("ca/site-{index}.crt"), certificate)?;
    }
    archive.into_inner().map(Bytes::from)
}

/// The engine paints what is said on standard error red, wherever it cuts it.
fn without_colours(text: &str) -> String {
    text.replace("\u{1b}[91m", "").replace("\u{1b}[0m", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_holds_the_dockerfile_and_the_certificates() {
        let packed = context("FROM x\n", &["one".to_owned(), "two".to_owned()]).expect("packs");
        let mut archive = tar::Archive::new(&packed[..]);
        let names = archive
            .entries()
            .expect("reads")
            .map(|entry| entry.expect("an entry").path().expect("a path").display().to_string());
        assert_eq!(names.collect::<Vec<_>>(), ["Dockerfile", "ca/site-0.crt", "ca/site-1.crt"]);
    }
}
