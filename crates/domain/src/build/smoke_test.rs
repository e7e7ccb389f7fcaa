//! A script that shows whether a computer made from an image has what its settings ask for.

use crate::{
    build::{package::Kind, runtime},
    environment::EnvironmentSettings,
};

/// Gives the script. It prints what is there, with versions, and fails if something is not. The settings are such that
/// their image could be built.
pub fn script(settings: &EnvironmentSettings) -> String {
    let mut script = String::from("set -e\necho \"$(uname -sm), user $(id -u)\"\n");
    for (name, version) in &settings.runtimes {
        if let Some(language) = runtime::find(name) {
            script += &format!("version=$({})\necho \"{name} $version\"\n", language.ask);
            script += &format!("case \"$version\" in {version}|{version}[.+-]*) ;; *) exit 1 ;; esac\n");
        }
    }
    let packages = &settings.packages;
    for (kind, names, command) in [
        (Kind::System, &packages.system, "dpkg-query --show"),
        (Kind::Python, &packages.python, "python3 -c \"$show\""),
        (Kind::Node, &packages.node, "npm ls --global --depth=0"),
    ] {
        let names: Vec<_> = names.iter().map(|name| format!("'{}'", kind.bare(name))).collect();
        if !names.is_empty() {
            script += &format!("{command} {}\n", names.join(" "));
        }
    }
    let show = "import importlib.metadata as m, sys; [print(n, m.version(n)) for n in sys.argv[1:]]";
    format!("show='{show}'\n{script}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Packages;

    #[test]
    fn everything_that_was_asked_for_is_asked_about() {
        let settings = EnvironmentSettings {
            runtimes: [("python".to_owned(), "3.11".to_owned())].into(),
            packages: Packages {
                system: vec!["jq=1.6".to_owned()],
                python: vec!["flask>=3".to_owned(), "six".to_owned()],
                node: vec!["@types/node@20".to_owned()],
            },
            ..EnvironmentSettings::default()
        };
        insta::assert_snapshot!(script(&settings));
    }
}
