//! Which versions of languages can be had in images made here: asked of the base image and of the sources that builds
//! reach, the way a build reaches them, and kept for a day.
//!
//! Nothing is claimed from a table: what the image has is asked of the languages, what the distribution has of its package
//! lists, what an installer has of its server. A source that does not answer adds nothing.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use domain::{
    build::{Recipe, runtime::LANGUAGES},
    environment::EnvironmentSettings,
};
use futures::TryStreamExt;
use tokio::{sync::Mutex, time::Instant};

use crate::{Error, Sandboxes};

/// How long an answer holds.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long asking may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Language to versions, oldest first.
pub type Available = BTreeMap<&'static str, Vec<String>>;

/// Answers by the base image's id.
pub(crate) type Known = Mutex<HashMap<String, (Instant, Available)>>;

impl Sandboxes {
    /// Tells which versions of languages environments on the default image can have. The first call takes some seconds;
    /// calls meanwhile wait for it.
    ///
    /// # Errors
    /// `NoImage`, `NoEngine`, `Unfiltered`, `BuildFailed`.
    pub async fn available_runtimes(&self) -> Result<Available, Error> {
        let inner = &self.inner;
        let base = inner.check_named(&inner.options.image).await?.id.unwrap_or_default();
        let mut known = inner.runtimes.lock().await;
        known.retain(|_, (asked_at, _)| asked_at.elapsed() < KEPT);
        if let Some((_, available)) = known.get(&base) {
            return Ok(available.clone());
        }
        let site = inner.options.builds.site(&inner.options.image);
        let mut recipe = Recipe::new(&EnvironmentSettings::default(), &site);
        if recipe.steps.is_empty() {
            recipe.steps += "USER root\n";
        }
        recipe.steps.extend(site.variables.iter().map(|name| format!("ARG {name}\n")));
        recipe.steps += &question(site.has_mise);
        let dockerfile = recipe.dockerfile();
        let said = inner.build(&recipe.base, &dockerfile, None, true).try_collect::<String>();
        let said = tokio::time::timeout(LIMIT, said).await;
        let said = said.unwrap_or_else(|_| Err(Error::BuildFailed("asking took too long".to_owned())))?;
        let available = read(&said);
        known.insert(base, (Instant::now(), available.clone()));
        Ok(available)
    }
}

/// Gives the step of a build that prints `@language version` for everything that can be had.
fn question(has_mise: bool) -> String {
    let mut script = String::from("apt-get update -q >/dev/null 2>&1\n");
    for language in LANGUAGES {
        let (name, ask, package) = (language.name, language.ask, language.package());
        script += &format!("version=$({ask} 2>/dev/null) && echo \"@{name} $version\"\n");
        script += &format!(
            "for package in $(apt-cache pkgnames 2>/dev/null | grep -Ex '{package}'); do \
             apt-cache policy $package | sed -nE 's/^ +Candidate: ([0-9]+:)?([0-9]+)/@{name} \\2/p'; done\n"
        );
        if has_mise {
            script += &format!("mise ls-remote {} 2>/dev/null | sed 's/^/@{name} /'\n", language.mise);
        }
    }
    // Odd lines of Node.js are never supported for long; the oldest still do, but nothing is tested on them any more.
    script += "npm view node versions --json 2>/dev/null | grep -oE '\"[0-9]+[.][0-9]+[.][0-9]+\"' | tr -d '\"' \
               | awk -F. '$1 >= 16 && $1 % 2 == 0 { print \"@nodejs \" $0 }'\n";
    // Each of the last stable ones can be had by number.
    script += "curl -fsSL --max-time 30 https://static.rust-lang.org/dist/channel-rust-stable.toml 2>/dev/null \
               | grep -A1 '^.pkg.rust.$' | grep -oE '[0-9]+[.][0-9]+' | head -n 1 \
               | awk -F. '{ for (n = $2 - 11; n <= $2; n++) print \"@rust \" $1 \".\" n }'\n";
    if has_mise {
        let get =
            "command -v mise >/dev/null || npm install --global --prefix /usr/local @jdxcode/mise >/dev/null 2>&1\n";
        script.insert_str(0, get);
    }
    script += "true\n";
    let words = serde_json::to_string(&["/bin/sh", "-c", &script]).expect("texts make JSON");
    format!("RUN {words}\n")
}

fn read(said: &str) -> Available {
    let mut available: BTreeMap<_, Vec<(Vec<u32>, String)>> =
        LANGUAGES.iter().map(|language| (language.name, Vec::new())).collect();
    for (name, version) in said.lines().filter_map(|line| line.trim().strip_prefix('@')?.split_once(' ')) {
        let language = LANGUAGES.iter().find(|language| language.name == name);
        let Some((language, line)) = language.and_then(|language| Some((language, language.line_of(version)?))) else {
            continue;
        };
        let versions = available.entry(language.name).or_default();
        let numbers = line.split('.').filter_map(|part| part.parse().ok()).collect();
        versions.push((numbers, line));
    }
    let sorted = available.into_iter().map(|(name, mut versions)| {
        versions.sort();
        versions.dedup();
        (name, versions.into_iter().map(|(_, version)| version).collect())
    });
    sorted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_becomes_lines_of_releases_in_order() {
        let said = "Step 1/3 : RUN [\"@python 9.9\"]\n@python 3.11.2\n@python 3.11.2-1+b1\n@nodejs 20.1.0\n@nodejs 8.1.0\n\
                    @go 1.19~1\n@cobol 1\n@java error\n @rust 1.85\n@rust 1.9\n";
        let available = read(said);
        assert_eq!(available["python"], ["3.11"]);
        assert_eq!(available["nodejs"], ["8", "20"]);
        assert_eq!(available["go"], ["1.19"]);
        assert_eq!(available["java"], Vec::<String>::new());
        assert_eq!(available["rust"], ["1.9", "1.85"]);
        assert_eq!(available.len(), 7);
    }
}
