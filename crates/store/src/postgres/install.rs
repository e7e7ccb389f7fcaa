//! Finds the Postgres binaries of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where distributions keep one directory per major version; `*` is the version.
const PLACES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// Binaries of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The directory with `postgres` and `initdb`.
    pub bin: PathBuf,
    /// For example `15.18`.
    pub version: String,
    /// For example `15`. Data of one major version are of no use to another.
    pub major: u32,
}

/// Gives all installations, newest first.
pub fn find_installations() -> Vec<Installation> {
    let mut bins: Vec<PathBuf> = Vec::new();
    for (place, prefix) in PLACES {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        bins.extend(
            entries
                .filter(|entry| entry.file_name().to_str().is_some_and(|name| is_version(name, prefix)))
                .map(|entry| entry.path().join("bin")),
        );
    }
    bins.push(PathBuf::from("/usr/local/pgsql/bin"));
    // Asks whichever installation the operator put on the path.
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        bins.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    bins.sort();
    bins.dedup();
    let mut found: Vec<Installation> = bins.iter().filter_map(|bin| read_installation(bin)).collect();
    found.sort_by_key(|installation| std::cmp::Reverse(version_key(&installation.version)));
    found
}

fn is_version(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|version| version.starts_with(|first: char| first.is_ascii_digit()))
}

fn read_installation(bin: &Path) -> Option<Installation> {
    // The client's package brings a directory without a server.
    if !bin.is_absolute() || !bin.join("initdb").exists() {
        return None;
    }
    let output = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
    let (version, major) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
    Some(Installation { bin: bin.to_owned(), version, major })
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(line: &str) -> Option<(String, u32)> {
    let version = line.split("(PostgreSQL)").nth(1)?.split_whitespace().next()?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((version.to_owned(), digits.parse().ok()?))
}

fn version_key(version: &str) -> Vec<u32> {
    version.split(|separator: char| !separator.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered_by_number() {
        let line = "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n";
        assert_eq!(parse_version(line), Some(("15.18".into(), 15)));
        assert_eq!(parse_version("postgres (PostgreSQL) 18beta1"), Some(("18beta1".into(), 18)));
        assert_eq!(parse_version("bash: not found"), None);
        assert!(version_key("15.18") > version_key("15.9"));
        assert!(version_key("15.18") > version_key("9.6.24"));
    }

    #[test]
    fn only_directories_named_after_a_version_are_looked_into() {
        assert!(is_version("15", ""));
        assert!(is_version("pgsql-16", "pgsql-"));
        assert!(!is_version("share", "pgsql-"));
        assert!(!is_version("common", ""));
    }
}
