//! What a container is made of: everything the engine is told, and nothing that can be forgotten elsewhere.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountBindOptions,
    MountBindOptionsPropagationEnum, MountType, ResourcesUlimits,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{Limits, Network, Options, Spec, directories::Directories, guest::SOCKET, skills::SKILLS};

pub(crate) const WORKSPACE: &str = "/workspace";
const RUN: &str = "/run/atelier";
const GUESTD: &str = "/.atelier/guestd";

/// Counts up when containers come to be made otherwise than from what is hashed below.
const LAYOUT: u32 = 1;

pub(crate) const LABEL_INSTALLATION: &str = "atelier.installation";
pub(crate) const LABEL_ENVIRONMENT: &str = "atelier.environment";
/// Only on the container for runs without the network that their environment has; its value is `none`.
pub(crate) const LABEL_NETWORK: &str = "atelier.network";
pub(crate) const LABEL_SPEC: &str = "atelier.spec";
/// On a container that waits or waited for its environment: the name of its bay.
pub(crate) const LABEL_BAY: &str = "atelier.bay";
/// On the same: which process made it wait.
pub(crate) const LABEL_WARM: &str = "atelier.warm";

/// What root keeps so that package managers work: they change owners and drop to their own users.
const ROOT_CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];

/// System calls that may be made, in the form the engine takes; its comments say why. Programs for 32 bit do not run.
const SECCOMP: &str = include_str!("seccomp.json");

/// Hashes all that a container is made from: a container with another hash is rebuilt.
///
/// `image_id` and not the image's name, so that a new image under the old name counts; the protocol's version, because
/// an old container runs the `guestd` it was started with.
pub(crate) fn spec_hash(options: &Options, spec: &Spec, limits: Limits, image_id: &str) -> String {
    #[derive(Serialize)]
    struct Parts<'a> {
        protocol: u8,
        layout: u32,
        image_id: &'a str,
        runtime: &'a Option<String>,
        user: &'a str,
        data_dir: &'a PathBuf,
        guestd: &'a PathBuf,
        limits: Limits,
        network: Network,
        env: &'a [(String, String)],
        variables: &'a [(String, String)],
        seccomp: &'a str,
    }
    let parts = Parts {
        protocol: guest_protocol::VERSION,
        layout: LAYOUT,
        image_id,
        runtime: &options.runtime,
        user: &options.user,
        data_dir: &options.data_dir,
        guestd: &options.guestd,
        limits,
        network: spec.network,
        env: &spec.env,
        variables: &options.builds.variables,
        seccomp: SECCOMP,
    };
    let json = serde_json::to_vec(&parts).expect("plain values make JSON");
    hex(&Sha256::digest(json)[..8])
}

/// Gives a short name of `text` out of `[0-9a-f]`, for places with little room (interfaces, firewall chains).
pub(crate) fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text)[..4])
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Describes the container of `spec` to the engine.
pub(crate) fn body(
    options: &Options,
    spec: &Spec,
    limits: Limits,
    directories: &Directories,
    network: &str,
    spec_hash: &str,
) -> ContainerCreateBody {
    let is_root = is_root(&options.user);
    let home = if is_root { "/root" } else { "/home/agent" };
    let mut env = vec![format!("HOME={home}")];
    let variables = options.builds.variables.iter();
    env.extend(variables.map(|(name, value)| format!("{name}={value}")));
    env.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
    let mut labels = vec![
        (LABEL_INSTALLATION, options.installation.as_str()),
        (LABEL_ENVIRONMENT, spec.environment.as_str()),
        (LABEL_SPEC, spec_hash),
    ];
    if spec.network == Network::Withheld {
        labels.push((LABEL_NETWORK, "none"));
    }
    let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mounts = vec![
        bind(&directories.workspace(), WORKSPACE, false),
        bind(&directories.home(), home, false),
        bind(&directories.run, RUN, false),
        bind(&directories.skills, SKILLS, true),
        bind(&options.guestd, GUESTD, true),
    ];
    let strings = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    ContainerCreateBody {
        hostname: Some("atelier".to_owned()),
        user: Some(options.user.clone()),
        env: Some(env),
        image: Some(spec.image_in(options).to_owned()),
        entrypoint: strings(&[GUESTD]),
        cmd: Some(vec!["serve".to_owned(), format!("{RUN}/{SOCKET}")]),
        working_dir: Some(WORKSPACE.to_owned()),
        healthcheck: Some(HealthConfig { test: strings(&["NONE"]), ..Default::default() }),
        stop_signal: Some("SIGTERM".to_owned()),
        labels: Some(labels.collect()),
        host_config: Some(HostConfig {
            runtime: options.runtime.clone(),
            network_mode: Some(network.to_owned()),
            mounts: Some(mounts),
            memory: Some(clamp(limits.memory_bytes)),
            // Equal: no swap on top.
            memory_swap: Some(clamp(limits.memory_bytes)),
            nano_cpus: Some((limits.cpus * 1e9) as i64),
            pids_limit: Some(i64::from(limits.pids)),
            shm_size: Some(256 * 1024 * 1024),
            ulimits: Some(vec![ulimit("nofile", open_files()), ulimit("core", 0)]),
            cap_drop: strings(&["ALL"]),
            cap_add: is_root.then(|| ROOT_CAPABILITIES.map(str::to_owned).to_vec()),
            security_opt: Some(vec!["no-new-privileges".to_owned(), format!("seccomp={}", compact(SECCOMP))]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([
                    ("max-size".to_owned(), "1m".to_owned()),
                    ("max-file".to_owned(), "1".to_owned()),
                ])),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Makes the description of an environment's container that of one that waits for an environment: what is mounted on the
/// host over the bay's directories comes to be seen in it, and nothing goes back.
pub(crate) fn in_bay(mut body: ContainerCreateBody, bay: &str, mark: &str) -> ContainerCreateBody {
    let labels = body.labels.get_or_insert_default();
    labels.remove(LABEL_ENVIRONMENT);
    labels.insert(LABEL_BAY.to_owned(), bay.to_owned());
    labels.insert(LABEL_WARM.to_owned(), mark.to_owned());
    let mounts = body.host_config.iter_mut().flat_map(|host| host.mounts.iter_mut().flatten());
    for mount in mounts.filter(|mount| !matches!(mount.target.as_deref(), Some(RUN | SKILLS | GUESTD))) {
        let propagation = Some(MountBindOptionsPropagationEnum::RSLAVE);
        mount.bind_options = Some(MountBindOptions { propagation, ..Default::default() });
    }
    body
}

/// Tells whether a container has these limits, as [`body`] describes them.
pub(crate) fn has_limits(host: &HostConfig, limits: Limits) -> bool {
    host.memory == Some(clamp(limits.memory_bytes))
        && host.nano_cpus == Some((limits.cpus * 1e9) as i64)
        && host.pids_limit == Some(i64::from(limits.pids))
}

fn is_root(user: &str) -> bool {
    matches!(user.split(':').next(), Some("" | "0" | "root"))
}

fn bind(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::BIND),
        source: Some(source.display().to_string()),
        target: Some(target.to_owned()),
        read_only: Some(read_only),
        ..Default::default()
    }
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}

/// Gives how many files a process may have open: enough for any tool, but not millions, since some programs close
/// every possible one when they start. An engine without the right to raise its own limit runs, as a rule, beside a
/// server with the same one, and refuses to start what asks for more.
fn open_files() -> i64 {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    clamp(own.min(65_536))
}

fn clamp(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Takes the layout out of a JSON text.
fn compact(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).expect("seccomp.json is JSON, a test says so");
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Place;

    fn spec() -> Spec {
        Spec {
            environment: "env_1".parse().expect("valid"),
            image: None,
            built: None,
            network: Network::None,
            limits: None,
            env: vec![("A".to_owned(), "1".to_owned())],
        }
    }

    #[test]
    fn everything_a_container_is_made_from_is_in_its_hash() {
        let options = Options { user: "0:0".to_owned(), ..Default::default() };
        let hash = spec_hash(&options, &spec(), Limits::default(), "sha256:1");
        assert_eq!(hash, spec_hash(&options, &spec(), Limits::default(), "sha256:1"));
        let few = Limits { pids: 7, ..Limits::default() };
        for (options, spec, limits, image) in [
            (options.clone(), spec(), Limits::default(), "sha256:2"),
            (options.clone(), spec(), few, "sha256:1"),
            (options.clone(), Spec { network: Network::Open, ..spec() }, Limits::default(), "sha256:1"),
            (options.clone(), Spec { env: Vec::new(), ..spec() }, Limits::default(), "sha256:1"),
            (Options { user: "1:1".to_owned(), ..options.clone() }, spec(), Limits::default(), "sha256:1"),
            (Options { runtime: Some("runsc".to_owned()), ..options }, spec(), Limits::default(), "sha256:1"),
        ] {
            assert_ne!(hash, spec_hash(&options, &spec, limits, image));
        }
    }

    #[test]
    fn only_root_keeps_capabilities() {
        let made = |user: &str| {
            let options = Options { user: user.to_owned(), ..Default::default() };
            let directories = Directories::new(Path::new("/data"), &Place::of(&spec()));
            body(&options, &spec(), Limits::default(), &directories, "none", "hash").host_config.expect("set").cap_add
        };
        assert_eq!(made("0:0").map(|kept| kept.len()), Some(ROOT_CAPABILITIES.len()));
        assert_eq!(made("1000:1000"), None);
    }

    #[test]
    fn dangerous_system_calls_are_not_in_the_profile() {
        let profile: serde_json::Value = serde_json::from_str(SECCOMP).expect("JSON");
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed: Vec<&str> = profile["syscalls"]
            .as_array()
            .expect("a list")
            .iter()
            .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
            .flat_map(|rule| rule["names"].as_array().expect("a list"))
            .filter_map(|name| name.as_str())
            .collect();
        assert!(allowed.len() > 250);
        for name in [
            "io_uring_setup",
            "io_uring_enter",
            "io_uring_register",
            "keyctl",
            "add_key",
            "request_key",
            "userfaultfd",
            "bpf",
            "perf_event_open",
            "mount",
            "umount",
            "umount2",
            "pivot_root",
            "fsopen",
            "fsmount",
            "fsconfig",
            "move_mount",
            "open_tree",
            "mount_setattr",
            "setns",
            "unshare",
            "kexec_load",
            "init_module",
            "finit_module",
            "open_by_handle_at",
            "reboot",
            "swapon",
            "clone3",
            "syslog",
            "acct",
            "quotactl",
            "iopl",
            "ioperm",
        ] {
            assert!(!allowed.contains(&name), "{name}");
        }
    }
}
