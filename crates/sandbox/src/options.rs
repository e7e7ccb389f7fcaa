//! What the operator sets for all sandboxes, and what an environment sets for its own.

use std::{path::PathBuf, time::Duration};

use domain::{EnvironmentId, build::Site, environment::ComputeProfile};
use serde::Serialize;

use crate::build;

/// Settings of the whole service.
#[derive(Debug, Clone)]
pub struct Options {
    /// Absolute. The files of an environment are in `{data_dir}/environments/{id}/`.
    pub data_dir: PathBuf,
    /// The engine: the path of its socket, or a URL (`unix://…`, `tcp://…`); `None` takes the engine's usual place.
    pub docker_socket: Option<String>,
    /// The OCI runtime by the name the engine knows it (`runc`, `runsc`, …); `None` takes the engine's default.
    pub runtime: Option<String>,
    /// The image of environments that name none.
    pub image: String,
    /// What other images an environment may name; `*` stands for anything but a slash. The engine's other images are
    /// the host's business, and may hold what its owner did not mean to show.
    pub images: Vec<String>,
    /// Every object of ours on the engine is named and labelled with this, so that two servers may share an engine.
    pub installation: String,
    /// The static `guestd` binary on the engine's host.
    pub guestd: PathBuf,
    /// A container unused for this long is stopped. Background commands count as use for eight times as long.
    pub idle_stop: Duration,
    /// When less of the disk is free, in bytes, what fills it most is killed, whatever its own limit.
    pub disk_reserve: u64,
    pub start_deadline: Duration,
    /// How many containers wait for an environment, of each kind (with internet and without). They need a server that may
    /// mount directories on the engine's host.
    pub warm: usize,
    /// How many containers may be starting at once; more only makes each slower.
    pub concurrent_starts: usize,
    /// `uid:gid` of everything in the containers. It should be the server's own, so that both may touch the files.
    pub user: String,
    /// What a container may use at most, by its environment's size.
    pub sizes: Sizes,
    /// Lets containers on the internet where the host cannot keep them from private networks and from itself.
    pub allow_unfiltered_egress: bool,
    /// Addresses or networks (`10.1.2.3`, `10.1.0.0/16`) that containers with internet may reach although they are
    /// private: a package mirror, a proxy.
    pub egress_allow: Vec<String>,
    pub builds: BuildOptions,
}

/// How images of environments are built, and what a site gives to all of them.
#[derive(Debug, Clone, Default)]
pub struct BuildOptions {
    /// The engine's name of the network that builds are on; `None` is the one that containers with internet are on.
    pub network: Option<String>,
    /// Set in every build and in every container: proxies, and where installers look for packages.
    pub variables: Vec<(String, String)>,
    /// Takes the place of the distribution's own servers in images.
    pub apt_mirror: Option<String>,
    /// Certificates to trust in images, each a PEM text.
    pub certificates: Vec<String>,
    /// Versions of languages may come by `mise`.
    pub has_mise: bool,
}

impl BuildOptions {
    pub(crate) fn site(&self, image: &str) -> Site {
        let declared = self.variables.iter().map(|(name, _)| name).filter(|name| build::is_declared(name));
        Site {
            image: image.to_owned(),
            variables: declared.cloned().collect(),
            apt_mirror: self.apt_mirror.clone(),
            has_certificates: !self.certificates.is_empty(),
            has_mise: self.has_mise,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Self {
            data_dir: PathBuf::from("/var/lib/atelier"),
            docker_socket: None,
            runtime: None,
            image: "atelier-workspace:latest".to_owned(),
            images: vec!["atelier-*".to_owned()],
            installation: "default".to_owned(),
            guestd: PathBuf::from("/usr/lib/atelier/guestd"),
            idle_stop: Duration::from_secs(15 * 60),
            disk_reserve: 1024 * 1024 * 1024,
            start_deadline: Duration::from_secs(30),
            warm: 0,
            concurrent_starts: 4,
            user: format!("{uid}:{gid}"),
            sizes: Sizes::default(),
            allow_unfiltered_egress: false,
            egress_allow: Vec::new(),
            builds: BuildOptions::default(),
        }
    }
}

/// What a container may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Limits {
    /// Memory, swap included.
    pub memory_bytes: u64,
    /// Processor cores; 0.5 is half of one. More than the engine's host has is as many as it has.
    pub cpus: f64,
    /// Processes and threads.
    pub pids: u32,
    /// Of the disk: files, home directory and what is written beside the image. It is watched, so the container need
    /// not know it.
    #[serde(skip)]
    pub disk_bytes: u64,
}

impl Limits {
    const fn new(memory_gib: u64, cpus: f64, pids: u32, disk_gib: u64) -> Self {
        const GIB: u64 = 1024 * 1024 * 1024;
        Self { memory_bytes: memory_gib * GIB, cpus, pids, disk_bytes: disk_gib * GIB }
    }
}

/// Those of a standard computer.
impl Default for Limits {
    fn default() -> Self {
        Sizes::default().standard
    }
}

/// What computers of each size may use at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizes {
    pub lite: Limits,
    pub standard: Limits,
    pub power: Limits,
    pub desktop: Limits,
}

impl Sizes {
    /// Gives the limits of a size; without one, a computer is a standard one.
    pub fn of(&self, profile: Option<ComputeProfile>) -> Limits {
        match profile.unwrap_or(ComputeProfile::Standard) {
            ComputeProfile::Lite => self.lite,
            ComputeProfile::Standard => self.standard,
            ComputeProfile::Power => self.power,
            ComputeProfile::Desktop => self.desktop,
        }
    }

    /// The most disk that any size has.
    pub(crate) fn most_disk(&self) -> u64 {
        let all = [self.lite, self.standard, self.power, self.desktop];
        all.iter().map(|limits| limits.disk_bytes).max().unwrap_or_default()
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            lite: Limits::new(2, 1.0, 512, 10),
            standard: Limits::new(4, 2.0, 1024, 20),
            power: Limits::new(8, 4.0, 2048, 40),
            desktop: Limits::new(8, 4.0, 2048, 40),
        }
    }
}

/// What a container may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// Nothing at all: it has no network interface but its own loopback.
    None,
    /// The internet, but no other container, no private network and not this host.
    Open,
    /// Nothing at all, for a run in an environment that has internet: in a container beside the environment's own.
    Withheld,
}

/// What the container of an environment is made from. A container made from another is rebuilt; the files stay.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spec {
    pub environment: EnvironmentId,
    /// The image that the environment names; `None` is [`Options::image`].
    pub image: Option<String>,
    /// The image that was built for the environment, which goes before the one it names.
    pub built: Option<String>,
    pub network: Network,
    /// `None` are those of a standard computer.
    pub limits: Option<Limits>,
    /// Set for every command, on top of what the image sets.
    pub env: Vec<(String, String)>,
}

impl Spec {
    /// Gives the name of the image that its container is made from.
    pub(crate) fn image_in<'a>(&'a self, options: &'a Options) -> &'a str {
        self.built.as_ref().or(self.image.as_ref()).unwrap_or(&options.image)
    }
}
