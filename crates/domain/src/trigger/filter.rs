//! Filters: which events of a kind a trigger wants.
//!
//! A filter is the name of a value and what it must be: equal, one of several, or like a text with `*` in it. Names are
//! paths into the payload (`pull_request.base.ref`); a few short ones mean the same for every forge.

use serde_json::{Map, Value};

/// Short names and where forges have what they mean, the first that is there.
const SHORT: [(&str, &[&str]); 5] = [
    ("repo", &["repository.full_name", "project.path_with_namespace", "repository.name"]),
    ("repository", &["repository.full_name", "project.path_with_namespace", "repository.name"]),
    ("branch", &["pull_request.base.ref", "object_attributes.target_branch", "workflow_run.head_branch", "ref"]),
    ("action", &["action", "object_attributes.action"]),
    ("author", &["sender.login", "user_username", "user.username"]),
];

/// Finds the value that a filter looks at.
pub(super) fn find<'a>(name: &str, payload: &'a Map<String, Value>) -> Option<&'a Value> {
    // A key of the payload itself is what its sender means by the name, unless that is a whole object.
    if let Some(value) = payload.get(name).filter(|value| !value.is_object()) {
        return Some(value);
    }
    let short = SHORT.iter().find(|(known, _)| *known == name);
    let found = short.and_then(|(_, paths)| paths.iter().find_map(|path| look_up(path, payload)));
    found.or_else(|| look_up(name, payload))
}

/// Follows a path with dots; numbers count the items of arrays.
pub(super) fn look_up<'a>(path: &str, payload: &'a Map<String, Value>) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let found = payload.get(first)?;
    rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(found, |value, step| match value {
        Value::Object(map) => map.get(step),
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Tells whether a payload has what a filter wants.
pub(super) fn matches(name: &str, wanted: &Value, payload: &Map<String, Value>) -> bool {
    let found = find(name, payload);
    match wanted {
        Value::Null => found.is_none_or(Value::is_null),
        Value::Array(any) => any.iter().any(|wanted| matches(name, wanted, payload)),
        Value::String(pattern) => found.is_some_and(|found| is_like(pattern, name, found)),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => found == Some(wanted),
    }
}

fn is_like(pattern: &str, name: &str, found: &Value) -> bool {
    match found {
        Value::String(text) if name == "branch" => {
            let short = text.strip_prefix("refs/heads/").unwrap_or(text);
            glob(pattern, text) || glob(pattern, short)
        }
        // `acme/site` is also meant by `site`.
        Value::String(text) if matches!(name, "repo" | "repository") && !pattern.contains('/') => {
            glob(pattern, text) || glob(pattern, text.rsplit('/').next().unwrap_or(text))
        }
        Value::String(text) => glob(pattern, text),
        // A list has it if one of its items is it.
        Value::Array(items) => items.iter().any(|item| is_like(pattern, name, item)),
        Value::Number(number) => glob(pattern, &number.to_string()),
        Value::Bool(is) => glob(pattern, &is.to_string()),
        Value::Null | Value::Object(_) => false,
    }
}

/// Tells whether a text is like a pattern, in which `*` is any text. Takes time in proportion to both lengths at most.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn filters_know_forges_and_paths() {
        let push = json!({"ref": "refs/heads/main", "repository": {"full_name": "acme/site", "name": "site"}, "n": 5,
            "commits": [{"message": "fix"}], "labels": ["bug", "ui"], "draft": false});
        let merge = json!({"object_kind": "merge_request", "project": {"path_with_namespace": "acme/site"},
            "object_attributes": {"action": "open", "target_branch": "release/2"}});
        for (payload, filters, expected) in [
            (&push, json!({}), true),
            (&push, json!({"repo": "acme/site", "branch": "main"}), true),
            (&push, json!({"repository": "site"}), true),
            (&push, json!({"branch": "refs/heads/main"}), true),
            (&push, json!({"branch": ["develop", "ma*"]}), true),
            (&push, json!({"branch": "develop"}), false),
            (&push, json!({"repo": "other/site"}), false),
            (&push, json!({"ref": "refs/*/main"}), true),
            (&push, json!({"n": 5, "commits.0.message": "fix", "labels": "ui", "draft": false}), true),
            (&push, json!({"n": "5", "draft": "false"}), true),
            (&push, json!({"n": 6}), false),
            (&push, json!({"labels": "docs"}), false),
            (&push, json!({"missing": "*"}), false),
            (&push, json!({"missing": null}), true),
            (&push, json!({"ref.x": "a", "commits.9": "*"}), false),
            (&merge, json!({"repo": "acme/*", "branch": "release/*", "action": "open"}), true),
            (&merge, json!({"action": ["close", "merge"]}), false),
        ] {
            let payload = payload.as_object().expect("an object");
            let all = filters.as_object().expect("an object").iter();
            assert_eq!(all.into_iter().all(|(name, wanted)| matches(name, wanted, payload)), expected, "{filters}");
        }
    }

    #[test]
    fn a_star_is_any_text() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "abc", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "acb", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
            ("", "", true),
            ("", "x", false),
            ("release/*", "release/2", true),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
