//! Bringing what clients send to its normal form.
//!
//! Runtimes and packages come as arrays or objects, and Node.js under two names. Each function gives the normal form or
//! says, by field, what is wrong.

use std::collections::BTreeMap;

use domain::{
    build::{
        package::Kind,
        runtime::{self, LANGUAGES},
    },
    environment::Packages,
};
use serde_json::Value;

use crate::{body::Patch, check::Fields};

pub(super) type Runtimes = BTreeMap<String, String>;

const MAX_PACKAGES: usize = 1000;

/// Brings the value of a patch to its normal form.
pub(super) fn patch<T, U: Default>(
    fields: &mut Fields,
    patch: Patch<T>,
    normalise: impl FnOnce(&mut Fields, T) -> U,
) -> Patch<U> {
    match patch {
        Patch::Absent => Patch::Absent,
        Patch::Null => Patch::Null,
        Patch::Value(value) => Patch::Value(normalise(fields, value)),
    }
}

pub(super) fn runtimes(fields: &mut Fields, value: Value) -> Runtimes {
    let mut runtimes = Runtimes::new();
    let mut add = |field: String, name: &str, version: Option<&Value>| {
        let name = if name == "node" { "nodejs" } else { name };
        let Some(language) = runtime::find(name) else {
            let known = LANGUAGES.map(|language| language.name).join(", ");
            return fields.refuse(field, format!("'{name}' is none of {known}"));
        };
        let version = match version {
            None => language.default_version.to_owned(),
            Some(Value::String(version)) if runtime::is_version(version) => version.clone(),
            Some(Value::Number(version)) if version.is_u64() => version.to_string(),
            // As in an array.
            Some(Value::Bool(true)) => language.default_version.to_owned(),
            Some(Value::Null | Value::Bool(false)) => return,
            Some(_) => return fields.refuse(field, "must be a version as a string, for example \"3.11\""),
        };
        runtimes.insert(name.to_owned(), version);
    };
    match &value {
        Value::Object(map) => {
            map.iter().for_each(|(name, version)| add(format!("runtimes.{name}"), name, Some(version)))
        }
        Value::Array(names) => names.iter().enumerate().for_each(|(index, name)| {
            // Anything but a string is shown as it came, as a name that is not known.
            let text = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
            add(format!("runtimes[{index}]"), &text, None);
        }),
        _ => fields.refuse("runtimes", "must be an object of versions or an array of names"),
    }
    runtimes
}

pub(super) fn packages(fields: &mut Fields, value: Value) -> Packages {
    let mut packages = Packages::default();
    match &value {
        Value::Array(_) => add_packages(fields, "packages".into(), Kind::Python, &mut packages.python, &value),
        Value::Object(map) => {
            for (kind, names) in map {
                let field = format!("packages.{kind}");
                let Ok(kind) = kind.parse::<Kind>() else {
                    fields.refuse(field, "is none of system, python, node");
                    continue;
                };
                let list = match kind {
                    Kind::System => &mut packages.system,
                    Kind::Python => &mut packages.python,
                    Kind::Node => &mut packages.node,
                };
                add_packages(fields, field, kind, list, names);
            }
        }
        _ => fields.refuse("packages", "must be an object of arrays or an array of Python packages"),
    }
    packages
}

fn add_packages(fields: &mut Fields, field: String, kind: Kind, list: &mut Vec<String>, names: &Value) {
    let Value::Array(names) = names else {
        return if !names.is_null() {
            fields.refuse(field, "must be an array of package names")
        };
    };
    if names.len() > MAX_PACKAGES {
        return fields.refuse(field, format!("must have at most {MAX_PACKAGES} items"));
    }
    for (index, name) in names.iter().enumerate() {
        match name.as_str() {
            Some(name) if kind.is_name(name) && list.iter().any(|before| before == name) => {}
            Some(name) if kind.is_name(name) => list.push(name.to_owned()),
            _ => fields.refuse(format!("{field}[{index}]"), "must be the name of a package"),
        }
    }
}

/// Tells whether `image` can name an image.
pub(super) fn is_image(image: &str) -> bool {
    (1..=255).contains(&image.len())
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte))
}
