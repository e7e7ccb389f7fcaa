//! The network of containers that have internet: one bridge of our own, on which they do not see each other.

use std::{collections::HashMap, path::Path};

use bollard::{Docker, errors::Error as EngineError, models::NetworkCreateRequest};

use crate::{
    Egress, Error, Options,
    container::{LABEL_INSTALLATION, short_hash},
    egress::Rules,
};

/// The bridge of one installation.
pub(crate) struct Bridge {
    /// The network's name on the engine.
    pub(crate) name: String,
    interface: String,
    installation: String,
    rules: Rules,
    /// One at a time: the rules are replaced as a whole.
    ensuring: tokio::sync::Mutex<()>,
}

impl Bridge {
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let hash = short_hash(&options.installation);
        // An interface's name has at most 15 characters.
        let interface = format!("atl{hash}");
        Ok(Self {
            name: format!("atelier-{}", options.installation),
            rules: Rules::new(&interface, &hash, &options.egress_allow)?,
            interface,
            installation: options.installation.clone(),
            ensuring: tokio::sync::Mutex::new(()),
        })
    }

    /// Makes the network if it is missing and sets the rules anew, and tells whether they hold.
    pub(crate) async fn ensure(&self, engine: &Docker) -> Result<Egress, Error> {
        let _one_at_a_time = self.ensuring.lock().await;
        if !self.exists(engine).await? {
            let request = NetworkCreateRequest {
                name: self.name.clone(),
                driver: Some("bridge".to_owned()),
                enable_ipv6: Some(false),
                options: Some(HashMap::from([
                    ("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned()),
                    ("com.docker.network.bridge.name".to_owned(), self.interface.clone()),
                ])),
                labels: Some(HashMap::from([(LABEL_INSTALLATION.to_owned(), self.installation.clone())])),
                ..Default::default()
            };
            match engine.create_network(request).await {
                Ok(_) => {}
                // Another process of this installation was first.
                Err(_) if self.exists(engine).await? => {}
                Err(err) => return Err(Error::other(format!("cannot create the network '{}'", self.name), err)),
            }
        }
        Ok(self.enforce().await)
    }

    /// Sets the rules anew if there is a network they are for. Firewalls get flushed by others.
    pub(crate) async fn refresh(&self, engine: &Docker) -> Result<Option<Egress>, Error> {
        let _one_at_a_time = self.ensuring.lock().await;
        match self.exists(engine).await? {
            true => Ok(Some(self.enforce().await)),
            false => Ok(None),
        }
    }

    /// Removes the network and its rules, unless a container is on it.
    pub(crate) async fn remove(&self, engine: &Docker) -> Result<(), Error> {
        let _one_at_a_time = self.ensuring.lock().await;
        match engine.remove_network(&self.name).await {
            Ok(()) | Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(err) => return Err(Error::other(format!("cannot remove the network '{}'", self.name), err)),
        }
        self.rules.remove().await;
        Ok(())
    }

    /// Tells whether this process could set the rules, without setting any.
    pub(crate) async fn could_enforce(&self) -> Egress {
        self.rules.could_set().await
    }

    async fn enforce(&self) -> Egress {
        if !Path::new("/sys/class/net").join(&self.interface).exists() {
            return Egress::NotEnforced("the engine's network is not on this host".to_owned());
        }
        self.rules.set().await
    }

    async fn exists(&self, engine: &Docker) -> Result<bool, Error> {
        match engine.inspect_network(&self.name, None).await {
            Ok(_) => Ok(true),
            Err(EngineError::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(err) => Err(Error::other(format!("cannot look at the network '{}'", self.name), err)),
        }
    }
}
