//! What this host really enforces, in words an operator can act upon.

use std::{fs, io};

use bollard::{
    Docker,
    models::{SystemInfo, SystemInfoCgroupDriverEnum},
};
use serde::Serialize;

use crate::{Egress, Options, network::Bridge};

/// The engine and what holds on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// `None` when it does not answer; then nothing holds.
    pub engine: Option<Engine>,
    /// Whether the limits are applied, as far as the engine says.
    pub memory: bool,
    pub pids: bool,
    pub cpus: bool,
    pub disk: DiskEnforcement,
    pub egress: Egress,
    /// Whether our system call filter is applied.
    pub seccomp: bool,
    /// Whether root in a container is somebody else on the host.
    pub user_namespace: bool,
    pub default_image: bool,
    /// Sentences: what is wrong, and how to mend it.
    pub warnings: Vec<String>,
}

/// The container engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Engine {
    pub version: String,
    pub runtime: String,
    /// `None` when the engine does not tell.
    pub runtime_version: Option<String>,
    /// 1 or 2.
    pub cgroup_version: u8,
    pub kernel: String,
}

/// Who stops a container from filling the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskEnforcement {
    /// We do, by looking from time to time: what a program writes between two looks is there.
    Watchdog,
}

pub(crate) async fn report(engine: &Docker, options: &Options, bridge: &Bridge) -> Report {
    let mut report = Report {
        engine: None,
        memory: false,
        pids: false,
        cpus: false,
        // Neither the engine's usual storage nor a directory on the host has a quota for one container.
        disk: DiskEnforcement::Watchdog,
        egress: bridge.could_enforce().await,
        seccomp: false,
        user_namespace: false,
        default_image: engine.inspect_image(&options.image).await.is_ok(),
        warnings: Vec::new(),
    };
    match engine.info().await {
        Ok(info) => {
            let components = engine.version().await.ok().and_then(|version| version.components).unwrap_or_default();
            let versions = components.into_iter().map(|component| (component.name, component.version)).collect();
            fill(&mut report, &info, versions, options);
        }
        Err(err) => report.warnings.push(format!("the container engine does not answer ({err}); start it")),
    }
    if let Egress::NotEnforced(reason) = &report.egress {
        report.warnings.push(format!(
            "egress: not enforced ({reason}); containers with internet access are refused unless \
             allow_unfiltered_egress is set"
        ));
    }
    if !report.default_image {
        report.warnings.push(format!("there is no image '{}'; build it", options.image));
    }
    if let Err(err) = check_guestd(options) {
        report.warnings.push(format!("guestd cannot be used from '{}' ({err}); build it", options.guestd.display()));
    }
    report
}

fn fill(report: &mut Report, info: &SystemInfo, versions: Vec<(String, String)>, options: &Options) {
    let runtime = options.runtime.clone().or_else(|| info.default_runtime.clone()).unwrap_or_default();
    let configured = info.runtimes.as_ref().and_then(|runtimes| runtimes.get(&runtime));
    if configured.is_none() {
        report.warnings.push(format!("the engine does not know the runtime '{runtime}'; name another or configure it"));
    }
    // gVisor can be told to leave the kernel's limits alone; then none of them holds.
    let ignores = configured.is_some_and(|runtime| {
        runtime.runtime_args.iter().flatten().any(|argument| argument.trim_start_matches('-') == "ignore-cgroups")
    });
    let groups = !ignores && !matches!(info.cgroup_driver, None | Some(SystemInfoCgroupDriverEnum::NONE));
    report.memory = groups && info.memory_limit == Some(true);
    report.pids = groups && info.pids_limit == Some(true);
    report.cpus = groups && info.cpu_cfs_quota == Some(true);
    for (holds, what) in [(report.memory, "memory"), (report.pids, "process"), (report.cpus, "processor")] {
        if !holds {
            report.warnings.push(format!("the {what} limit does not hold here; give the engine control groups"));
        }
    }
    let has =
        |name: &str| info.security_options.iter().flatten().any(|option| option.contains(&format!("name={name}")));
    report.seccomp = has("seccomp");
    report.user_namespace = has("userns") || has("rootless");
    if !report.seccomp {
        report.warnings.push("system calls are not filtered here; the engine or kernel lacks seccomp".to_owned());
    }
    // An engine tells the version of its own default only.
    let runtime_version = versions.into_iter().find(|(name, _)| *name == runtime).map(|(_, version)| version);
    if let Some(version) = runtime_version.as_ref().filter(|_| runtime == "runc") {
        report.warnings.extend(old_runc(version));
    }
    report.engine = Some(Engine {
        version: info.server_version.clone().unwrap_or_default(),
        runtime,
        runtime_version,
        cgroup_version: match info.cgroup_version.map(|version| version.to_string()).as_deref() {
            Some("2") => 2,
            _ => 1,
        },
        kernel: info.kernel_version.clone().unwrap_or_default(),
    });
}

/// Warns of a `runc` from which containers are known to get out.
fn old_runc(version: &str) -> Option<String> {
    let number = version.split(['+', '-', '~']).next()?;
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    let version_number: (u32, u32, u32) = (parts.next()?, parts.next()?, parts.next().unwrap_or(0));
    let is_fixed = match version_number {
        (1, 2, patch) => patch >= 8,
        (1, 3, patch) => patch >= 3,
        other => other >= (1, 4, 0),
    };
    (!is_fixed).then(|| {
        format!(
            "runc {version} is older than the fixes of 2025 for escapes from containers (CVE-2025-31133, -52565, \
             -52881); use 1.2.8, 1.3.3 or newer, unless your distribution has put the fixes into this one"
        )
    })
}

fn check_guestd(options: &Options) -> io::Result<()> {
    let metadata = fs::metadata(&options.guestd)?;
    match metadata.is_file() {
        true => Ok(rustix::fs::access(&options.guestd, rustix::fs::Access::EXEC_OK)?),
        false => Err(io::Error::other("it is not a file")),
    }
}

#[cfg(test)]
mod tests {
    use super::old_runc;

    #[test]
    fn old_versions_of_runc_are_named() {
        for old in ["1.1.5+ds1-1+deb12u1", "1.2.7", "1.3.2", "1.0.0-rc10"] {
            assert!(old_runc(old).is_some_and(|warning| warning.contains(old)), "{old}");
        }
        for fixed in ["1.2.8", "1.3.3", "1.4.0", "2.0.0"] {
            assert_eq!(old_runc(fixed), None, "{fixed}");
        }
    }
}
