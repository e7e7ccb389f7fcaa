//! From the settings of an environment, and what the site adds to every image, to a Dockerfile.

use crate::{
    build::{
        dockerfile::{self, MAX_LINE_BYTES},
        package,
        runtime::{self, APT_CLEAN, APT_INSTALL},
    },
    environment::EnvironmentSettings,
};

/// What every image of a site gets, whatever its environment says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// The image of environments that name none.
    pub image: String,
    /// Names of variables that the installers read and that hold while the image is built; their values are given to the
    /// build and are no part of the recipe, so that a moved mirror rebuilds nothing.
    pub variables: Vec<String>,
    /// Takes the place of the distribution's own servers.
    pub apt_mirror: Option<String>,
    /// There are certificates to trust, in the directory `ca` beside the Dockerfile.
    pub has_certificates: bool,
    /// Versions of languages may come by `mise`.
    pub has_mise: bool,
}

/// What an environment's image is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The image it begins with.
    pub base: String,
    /// All lines after `FROM`. Empty: the base is all there is to it.
    pub steps: String,
    /// Why it cannot be built, each with the field it is about.
    pub errors: Vec<(String, String)>,
    /// What will not be as it looks.
    pub warnings: Vec<String>,
}

impl Recipe {
    /// Makes the recipe of an environment. What is wrong with it is told in it; its Dockerfile can be shown all the same.
    pub fn new(settings: &EnvironmentSettings, site: &Site) -> Self {
        let base = settings.base_image.clone().unwrap_or_else(|| site.image.clone());
        let mut recipe = Self { base, steps: String::new(), errors: Vec::new(), warnings: Vec::new() };
        recipe.add_site(site);
        let before = recipe.steps.len();
        recipe.add_runtimes(settings, site);
        recipe.add_packages(settings);
        recipe.add_extensions(settings.dockerfile_extensions.as_deref().unwrap_or_default());
        recipe.add_scripts(&settings.setup_scripts);
        if before < recipe.steps.len() && !site.variables.is_empty() {
            let variables: String = site.variables.iter().map(|name| format!("ARG {name}\n")).collect();
            recipe.steps.insert_str(0, &variables);
        }
        if !recipe.steps.is_empty() {
            // An image may name a user who may not install anything.
            recipe.steps.insert_str(0, "USER root\n");
        }
        recipe
    }

    /// Tells whether anything has to be built.
    pub fn is_trivial(&self) -> bool {
        self.steps.is_empty() && self.errors.is_empty()
    }

    /// Gives the Dockerfile.
    pub fn dockerfile(&self) -> String {
        format!("FROM {}\n{}", self.base, self.steps)
    }

    fn add_site(&mut self, site: &Site) {
        if let Some(mirror) = &site.apt_mirror {
            let files = "/etc/apt/sources.list /etc/apt/sources.list.d/*";
            self.run(
                "The site's mirror of the distribution",
                &format!(
                    "for file in {files}; do if [ -f \"$file\" ]; then \
                     sed -i -E 's#https?://deb\\.debian\\.org/debian(/?[ \\t]|/?$)#{}\\1#' \"$file\"; fi; done",
                    mirror.trim_end_matches('/')
                ),
            );
        }
        if site.has_certificates {
            self.steps += "# The site's certificates\nCOPY ca/ /usr/local/share/ca-certificates/\n";
            self.steps += &format!(
                "RUN command -v update-ca-certificates >/dev/null || {{ {APT_INSTALL} ca-certificates && {APT_CLEAN}; }}; \
                 update-ca-certificates\n"
            );
        }
    }

    fn add_runtimes(&mut self, settings: &EnvironmentSettings, site: &Site) {
        for (name, version) in &settings.runtimes {
            match runtime::find(name) {
                Some(language) if runtime::is_version(version) => {
                    self.run(&format!("{name} {version}"), &language.command(version, site.has_mise));
                }
                Some(_) => self.refuse(format!("runtimes.{name}"), format!("'{version}' is no version")),
                None => self.refuse(format!("runtimes.{name}"), "is no language that is known here"),
            }
        }
    }

    fn add_packages(&mut self, settings: &EnvironmentSettings) {
        let packages = &settings.packages;
        if let Some(names) = self.words("system", &packages.system, package::is_system) {
            self.run("Packages of the distribution", &format!("{APT_INSTALL} \\\n      {names} \\\n && {APT_CLEAN}"));
        }
        if let Some(names) = self.words("python", &packages.python, package::is_python) {
            let tools = format!("{APT_INSTALL} python3 python3-pip && {APT_CLEAN}");
            // Distributions mark their Python as not to be touched; the one in an image can be made anew at any time.
            self.run(
                "Python packages",
                &format!(
                    "{{ command -v pip3 >/dev/null || {{ {tools}; }}; }} \\\n && PIP_BREAK_SYSTEM_PACKAGES=1 \
                     PIP_ROOT_USER_ACTION=ignore pip3 install --no-cache-dir --no-input \\\n      {names}"
                ),
            );
        }
        if let Some(names) = self.words("node", &packages.node, package::is_node) {
            let tools = format!("{APT_INSTALL} nodejs npm && {APT_CLEAN}");
            self.run(
                "Node.js packages",
                &format!(
                    "{{ command -v npm >/dev/null || {{ {tools}; }}; }} \\\n && npm install --global --no-fund --no-audit \
                     \\\n      {names} \\\n && npm cache clean --force"
                ),
            );
        }
    }

    /// Gives packages as words of a command; `None` if there are none, or something else among them.
    fn words(&mut self, kind: &str, names: &[String], is_name: impl Fn(&str) -> bool) -> Option<String> {
        let count = self.errors.len();
        for (index, _) in names.iter().enumerate().filter(|(_, name)| !is_name(name)) {
            self.refuse(format!("packages.{kind}[{index}]"), "must be the name of a package");
        }
        let is_good = !names.is_empty() && self.errors.len() == count;
        // The quotes keep '>' and '*' from the shell; a name has none in it.
        is_good.then(|| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" \\\n      "))
    }

    fn add_extensions(&mut self, text: &str) {
        let checked = dockerfile::check(text);
        for error in checked.errors {
            self.refuse("dockerfileExtensions", error);
        }
        self.warnings.extend(checked.warnings);
        if !text.trim().is_empty() {
            self.steps += &format!("# dockerfileExtensions\n{}\n", text.trim_end());
        }
    }

    fn add_scripts(&mut self, scripts: &[String]) {
        if scripts.iter().all(|script| script.trim().is_empty()) {
            return;
        }
        // The lines before may have named another user and another directory.
        self.steps += "USER root\nWORKDIR /workspace\n";
        for (index, script) in scripts.iter().enumerate().filter(|(_, script)| !script.trim().is_empty()) {
            // As an array, a script of many lines is one line, and no character in it has a meaning here.
            let words = ["/bin/sh", "-ec", script.trim_end()];
            let line = serde_json::to_string(&words).expect("texts make JSON");
            if line.len() > MAX_LINE_BYTES {
                let message = format!("must have at most {MAX_LINE_BYTES} bytes; fetch what is longer");
                self.refuse(format!("setupScripts[{index}]"), message);
            }
            self.steps += &format!("# setupScripts[{index}]\nRUN {line}\n");
        }
    }

    fn run(&mut self, what: &str, command: &str) {
        self.steps += &format!("# {what}\nRUN {command}\n");
    }

    fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push((field.into(), message.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Packages;

    fn site() -> Site {
        Site { image: "atelier-workspace:latest".to_owned(), ..Site::default() }
    }

    fn words(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_dockerfile_of_everything_an_environment_can_say() {
        let runtimes = [("python", "3.11"), ("nodejs", "22"), ("java", "17"), ("rust", "1.85")];
        let settings = EnvironmentSettings {
            runtimes: runtimes.map(|(name, version)| (name.to_owned(), version.to_owned())).into(),
            packages: Packages {
                system: words(&["jq", "libpq-dev"]),
                python: words(&["flask==3.0", "uvicorn[standard]>=0.30"]),
                node: words(&["@types/node", "vite@^5"]),
            },
            dockerfile_extensions: Some("ENV A=1\nRUN echo \"extended\"\nUSER nobody\n".to_owned()),
            setup_scripts: words(&["set -x\necho \"it's \\\\ done\" > /opt/done", " "]),
            ..EnvironmentSettings::default()
        };
        let recipe = Recipe::new(&settings, &site());
        assert_eq!(recipe.errors, []);
        assert_eq!(recipe.warnings.len(), 1);
        insta::assert_snapshot!(recipe.dockerfile());
    }

    #[test]
    fn what_a_site_adds_is_in_every_image() {
        let site = Site {
            variables: words(&["PIP_INDEX_URL"]),
            apt_mirror: Some("http://mirror.example/debian/".to_owned()),
            has_certificates: true,
            has_mise: true,
            ..site()
        };
        let plain = Recipe::new(&EnvironmentSettings::default(), &site);
        assert!(!plain.is_trivial());
        let settings = EnvironmentSettings {
            base_image: Some("debian:bookworm-slim".to_owned()),
            runtimes: [("go".to_owned(), "1.24".to_owned())].into(),
            ..EnvironmentSettings::default()
        };
        insta::assert_snapshot!(format!("{}\n\n{}", plain.dockerfile(), Recipe::new(&settings, &site).dockerfile()));
    }

    #[test]
    fn nothing_to_add_is_nothing_to_build() {
        let recipe = Recipe::new(&EnvironmentSettings::default(), &site());
        assert!(recipe.is_trivial());
        assert_eq!(recipe.dockerfile(), "FROM atelier-workspace:latest\n");
        let variables = Site { variables: words(&["PIP_INDEX_URL"]), ..site() };
        assert!(Recipe::new(&EnvironmentSettings::default(), &variables).is_trivial());
    }

    #[test]
    fn what_is_no_name_never_reaches_the_shell() {
        let settings = EnvironmentSettings {
            runtimes: [("python".to_owned(), "3.11; id".to_owned()), ("cobol".to_owned(), "1".to_owned())].into(),
            packages: Packages {
                system: words(&["jq", "a$(id)"]),
                python: words(&["x';id;'"]),
                node: words(&["--prefix=/"]),
            },
            dockerfile_extensions: Some("FROM scratch".to_owned()),
            setup_scripts: vec!["x".repeat(70_000)],
            ..EnvironmentSettings::default()
        };
        let recipe = Recipe::new(&settings, &site());
        let fields: Vec<&str> = recipe.errors.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "runtimes.cobol",
                "runtimes.python",
                "packages.system[1]",
                "packages.python[0]",
                "packages.node[0]",
                "dockerfileExtensions",
                "setupScripts[0]",
            ]
        );
        assert!(
            !recipe.steps.contains("id;") && !recipe.steps.contains("$(id)") && !recipe.steps.contains("--prefix=/ ")
        );
    }
}
