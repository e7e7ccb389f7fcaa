//! Paths in the container as the model writes them.

use super::{ToolError, for_model};

const MAX_PATH_BYTES: usize = 4096;

/// Checks that `path` is absolute and gives it without `.`, `..` and doubled slashes.
///
/// `..` is taken away by name, as everybody reads it; where links matter, a shell is there.
pub(super) fn absolute(field: &str, path: &str, cwd: &str) -> Result<String, ToolError> {
    check(field, path)?;
    if path.starts_with('/') {
        return Ok(normalize(path));
    }
    let meant = normalize(&format!("{cwd}/{}", path.trim_start_matches("./")));
    Err(for_model(format!("{field} must be an absolute path, not {path:?}. Did you mean {meant}?")))
}

/// Gives `path` as an absolute one, taking it from `cwd` where it is not.
pub(super) fn resolve(field: &str, path: &str, cwd: &str) -> Result<String, ToolError> {
    check(field, path)?;
    Ok(if path.starts_with('/') { normalize(path) } else { normalize(&format!("{cwd}/{path}")) })
}

fn check(field: &str, path: &str) -> Result<(), ToolError> {
    match path {
        "" => Err(for_model(format!("{field} is empty."))),
        _ if path.contains('\0') => Err(for_model(format!("{field} holds a NUL character."))),
        _ if path.len() > MAX_PATH_BYTES => Err(for_model(format!("{field} is longer than {MAX_PATH_BYTES} bytes."))),
        _ => Ok(()),
    }
}

fn normalize(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_normalized_and_others_refused_with_a_guess() {
        for (path, expected) in [("/a/b", "/a/b"), ("/a//b/./c/", "/a/b/c"), ("/a/../../b", "/b"), ("/", "/")] {
            assert_eq!(absolute("file_path", path, "/workspace").unwrap(), expected);
        }
        for (path, sentence) in [
            ("", "file_path is empty."),
            ("a\0b", "file_path holds a NUL character."),
            ("src/x", r#"file_path must be an absolute path, not "src/x". Did you mean /workspace/src/x?"#),
            ("./x", r#"file_path must be an absolute path, not "./x". Did you mean /workspace/x?"#),
        ] {
            assert_eq!(absolute("file_path", path, "/workspace").unwrap_err().to_string(), sentence);
        }
        assert_eq!(resolve("path", "src", "/workspace").unwrap(), "/workspace/src");
    }
}
