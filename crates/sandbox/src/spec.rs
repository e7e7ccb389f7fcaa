//! From an environment's description to the container it wants.
//!
//! Whoever starts an environment's container must want the same one, or the two would rebuild it in turn; so what an
//! environment means is decided here and nowhere else.

use domain::environment::{ComputeProfile, Environment};

use crate::{Limits, Network, Sandboxes, Spec};

impl Sandboxes {
    /// Gives the container that an environment describes.
    ///
    /// Its variables and secrets are not part of it: they are given to each command, so changing one does not restart the
    /// computer, and no secret stands in the engine's records or in the first process's environment.
    pub fn spec_of(&self, environment: &Environment) -> Spec {
        let settings = &environment.settings;
        Spec {
            environment: environment.id.clone(),
            image: settings.base_image.clone(),
            // What was built last stays in use until there is another, but not where none is needed any more.
            built: environment.build.image.clone().filter(|_| !self.recipe_of(environment).is_trivial()),
            network: if settings.internet_access { Network::Open } else { Network::None },
            limits: Some(self.limits_of(settings.compute_profile)),
            env: Vec::new(),
        }
    }

    /// Gives what a computer of this size may use; without a size it is a standard one.
    pub fn limits_of(&self, profile: Option<ComputeProfile>) -> Limits {
        self.inner.options.sizes.of(profile)
    }
}
