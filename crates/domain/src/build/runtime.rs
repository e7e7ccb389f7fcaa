//! Languages by version: how an image gets one, and how it is made sure that it is the one.
//!
//! What the image has already is taken first, then what its distribution has, then what the language's own installer
//! gives, then `mise` where the operator allows it. After each the version is asked of the language itself: a build never
//! passes with another version than was wanted.

/// A language that environments may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Language {
    pub name: &'static str,
    /// The version that is taken where only the language is named: the one of the workspace image's distribution.
    pub default_version: &'static str,
    /// A command that prints the version and nothing else.
    pub ask: &'static str,
    /// The distribution's packages; `{version}` is the version, where the distribution may have several.
    pub packages: &'static str,
    /// How the language itself gives a version, if it does.
    own: Option<&'static str>,
    /// What `mise` calls it.
    pub mise: &'static str,
    /// How many parts of a version tell one line of releases from another.
    pub parts: usize,
}

pub const LANGUAGES: [Language; 7] = [
    Language {
        name: "python",
        default_version: "3.11",
        ask: "python3 -c \"import platform; print(platform.python_version())\"",
        packages: "python3 python3-pip python3-venv",
        own: None,
        mise: "python",
        parts: 2,
    },
    Language {
        name: "nodejs",
        default_version: "18",
        ask: "node --version | tr -d v",
        packages: "nodejs npm",
        own: Some("npm install --global --prefix /usr/local node@{version}"),
        mise: "node",
        parts: 1,
    },
    Language {
        name: "go",
        default_version: "1.19",
        ask: "go version | cut -d ' ' -f 3 | tr -d go",
        packages: "golang-go",
        own: None,
        mise: "go",
        parts: 2,
    },
    Language {
        name: "php",
        default_version: "8.2",
        ask: "php -r 'echo PHP_VERSION;'",
        packages: "php-cli",
        own: None,
        mise: "php",
        parts: 2,
    },
    Language {
        name: "java",
        default_version: "17",
        ask: "java -version 2>&1 | head -n 1 | cut -d '\"' -f 2",
        packages: "openjdk-{version}-jdk-headless",
        own: None,
        mise: "java",
        parts: 1,
    },
    Language {
        name: "ruby",
        default_version: "3.1",
        ask: "ruby -e 'print RUBY_VERSION'",
        packages: "ruby",
        own: None,
        mise: "ruby",
        parts: 2,
    },
    Language {
        name: "rust",
        default_version: "1.63",
        ask: "rustc --version | cut -d ' ' -f 2",
        packages: "rustc cargo",
        own: Some(
            "(command -v curl >/dev/null || INSTALL curl ca-certificates) \
             && curl -fsSL https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu/rustup-init -o /tmp/rustup-init \
             && chmod +x /tmp/rustup-init \
             && RUSTUP_HOME=/opt/rustup CARGO_HOME=/opt/cargo /tmp/rustup-init -y -q --no-modify-path --profile minimal \
             --default-toolchain {version} \
             && rm /tmp/rustup-init \
             && ln -sf /opt/rustup/toolchains/*/bin/* /usr/local/bin/",
        ),
        mise: "rust",
        parts: 2,
    },
];

/// Installs packages of the distribution; used in commands as `INSTALL`.
pub(super) const APT_INSTALL: &str =
    "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends";
const APT_INSTALL_ONLY: &str = "DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends";

/// Removes what `apt-get update` has left.
pub(super) const APT_CLEAN: &str = "rm -rf /var/lib/apt/lists/*";

/// Finds a language by its name.
pub fn find(name: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.name == name)
}

/// Tells whether `version` can be a version of a language: numbers, dots and a few words like `-beta`.
pub fn is_version(version: &str) -> bool {
    (1..=32).contains(&version.len())
        && version.starts_with(|c: char| c.is_ascii_digit())
        && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+'))
}

impl Language {
    /// Gives the command that makes sure that the language is there in `version`, which is a version by [`is_version`].
    pub(super) fn command(&self, version: &str, has_mise: bool) -> String {
        let fill = |text: &str| text.replace("INSTALL", APT_INSTALL).replace("{version}", version);
        let packages = fill(self.packages);
        let first = packages.split(' ').next().unwrap_or_default();
        let pattern = version.replace('.', "[.]").replace('+', "[+]");
        let mut ways = vec![
            "has".to_owned(),
            // Whether it is the right one is asked before: a language of the wrong version is large.
            format!(
                "{{ apt-get update -q && apt-cache policy {first} | grep -Eq 'Candidate: ([0-9]+:)?{pattern}([^0-9]|$)' \
                 && {APT_INSTALL_ONLY} {packages}; {APT_CLEAN}; has; }}",
            ),
        ];
        if let Some(own) = self.own {
            ways.push(format!("{{ {} && hash -r && has; }}", fill(own)));
        }
        if has_mise {
            let tool = format!("{}@{version}", self.mise);
            ways.push(format!(
                "{{ {{ command -v mise >/dev/null || npm install --global --prefix /usr/local @jdxcode/mise; }} \
                 && export MISE_DATA_DIR=/opt/mise MISE_YES=1 && mise install {tool} \
                 && ln -sf \"$(mise where {tool})\"/bin/* /usr/local/bin/ && hash -r && has; }}"
            ));
        }
        let ways = ways.join(" \\\n || ");
        let (name, ask) = (self.name, self.ask);
        format!(
            "has() {{ case \"$({ask} 2>/dev/null)\" in {version}|{version}[.+-]*) ;; *) return 1 ;; esac; }}; \\\n    {ways} \
             \\\n || {{ echo \"{name} {version} cannot be had here; what can is told by /environments/runtimes/available\" \
             >&2; exit 1; }}",
        )
    }

    /// Gives the package whose version is the language's own, as the distribution's list has it.
    pub fn package(&self) -> String {
        let first = self.packages.split(' ').next().unwrap_or_default();
        first.replace("{version}", "[0-9]+")
    }

    /// Cuts a version to what tells one line of releases from another: `3.11.2` to `3.11`, `18.20.4` to `18`.
    pub fn line_of(&self, version: &str) -> Option<String> {
        let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
        let parts: Vec<&str> = version[..end].split('.').take(self.parts).collect();
        let is_whole = parts.len() == self.parts && parts.iter().all(|part| !part.is_empty());
        is_whole.then(|| parts.join("."))
    }

    /// Tells whether other versions than the distribution's come by the language's own installer.
    pub fn has_own_installer(&self) -> bool {
        self.own.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_cut_to_its_line_of_releases() {
        for (name, version, line) in [
            ("python", "3.11.2", Some("3.11")),
            ("nodejs", "18.20.4+dfsg-1", Some("18")),
            ("java", "17.0.13", Some("17")),
            ("go", "1.19~1", Some("1.19")),
            ("go", "1", None),
            ("ruby", "", None),
        ] {
            assert_eq!(find(name).and_then(|language| language.line_of(version)).as_deref(), line, "{name} {version}");
        }
    }

    #[test]
    fn versions_are_words_without_a_meaning_for_the_shell() {
        for good in ["3.11", "18", "1.80.1", "3.13.0rc1", "1.81.0-beta.1", "17.0.2+8"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "*", "3.11;id", "$(id)", "-1", "lts", "3 11", "3|4", "3)", "1'"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
