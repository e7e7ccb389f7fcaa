//! Which containers an environment has.
//!
//! A message may take the network away from its run while another thread of the same environment works with it. A network
//! is not changed under a running container, so such runs get a second one beside the first, on the same files.

use domain::EnvironmentId;

use crate::{Network, Spec};

/// One container of an environment, whether it is there or not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) environment: EnvironmentId,
    /// The second one, for runs that are kept from the network the environment has.
    pub(crate) is_offline: bool,
}

impl Place {
    /// The environment's own container.
    pub(crate) fn main(environment: &EnvironmentId) -> Self {
        Self { environment: environment.clone(), is_offline: false }
    }

    /// Every container an environment may have, in the order in which they are locked.
    pub(crate) fn all(environment: &EnvironmentId) -> [Self; 2] {
        [false, true].map(|is_offline| Self { environment: environment.clone(), is_offline })
    }

    pub(crate) fn of(spec: &Spec) -> Self {
        Self { environment: spec.environment.clone(), is_offline: spec.network == Network::Withheld }
    }

    /// The container's name on the engine.
    pub(crate) fn name(&self, installation: &str) -> String {
        format!("atelier-{installation}-{}{}", self.environment, self.suffix())
    }

    /// The name, below the environment's directory, of the one that holds the daemon's socket.
    pub(crate) fn run(&self) -> String {
        format!("run{}", self.suffix())
    }

    /// The same for the one that holds skills.
    pub(crate) fn skills(&self) -> String {
        format!("skills{}", self.suffix())
    }

    fn suffix(&self) -> &'static str {
        if self.is_offline { "-offline" } else { "" }
    }
}
