//! From an environment's description to the container it wants.
//!
//! Whoever starts an environment's container must want the same one, or the two would rebuild it in turn; so what an
//! environment means is decided here and nowhere else.

use domain::environment::{ComputeProfile, Environment};

use crate::{Limits, Network, Sandboxes, Spec};

impl Sandboxes {
    /// Gives the container that an environment describes. `secrets` are the opened ones; each is set like a variable and
    /// hides the variable of its name.
    pub fn spec_of(&self, environment: &Environment, secrets: Vec<(String, String)>) -> Spec {
        let settings = &environment.settings;
        let variables = settings.environment_variables.iter();
        let mut env: Vec<(String, String)> = variables
            .filter(|variable| secrets.iter().all(|(key, _)| *key != variable.key))
            .map(|variable| (variable.key.clone(), variable.value.clone()))
            .collect();
        env.extend(secrets);
        Spec {
            environment: environment.id.clone(),
            image: settings.base_image.clone(),
            network: if settings.internet_access { Network::Open } else { Network::None },
            limits: settings.compute_profile.map(|profile| self.limits_of(Some(profile))),
            env,
        }
    }

    /// Gives what a computer of this size may use; without one, the limits of all.
    pub fn limits_of(&self, profile: Option<ComputeProfile>) -> Limits {
        let options = &self.inner.options;
        match profile {
            None => options.limits,
            Some(ComputeProfile::Lite) => options.profiles.lite,
            Some(ComputeProfile::Standard) => options.profiles.standard,
            Some(ComputeProfile::Power) => options.profiles.power,
            Some(ComputeProfile::Desktop) => options.profiles.desktop,
        }
    }
}
