//! `${NAME}` and `${NAME:-default}`, as `.mcp.json` has them.

/// A variable is named that is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not set")]
pub struct MissingVariable(pub String);

/// Puts values in the place of variables. What is not of one of the two forms stays as it is.
///
/// As in a shell, a default is taken for a variable that is empty too. Values are not looked into again.
///
/// # Errors
/// When a variable is not set and has no default.
pub fn fill_in<'a>(text: &str, find: impl Fn(&str) -> Option<&'a str>) -> Result<String, MissingVariable> {
    let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            filled.push_str("${");
            rest = after;
            continue;
        };
        let (name, default) = inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
        if !is_name(name) {
            filled.push_str("${");
            filled.push_str(inside);
            filled.push('}');
        } else {
            match (find(name), default) {
                (Some(value), None) => filled.push_str(value),
                (Some(value), Some(_)) if !value.is_empty() => filled.push_str(value),
                (_, Some(default)) => filled.push_str(default),
                (None, None) => return Err(MissingVariable(name.to_owned())),
            }
        }
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_and_defaults_are_filled_in() {
        let find = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            "NESTED" => Some("${A}"),
            _ => None,
        };
        for (text, expected) in [
            ("", Ok("")),
            ("x${A}y${A}", Ok("x1y1")),
            ("${A:-2}", Ok("1")),
            ("${B:-2}", Ok("2")),
            ("${B:-}", Ok("")),
            ("${B:-a:-b}", Ok("a:-b")),
            ("${EMPTY}|${EMPTY:-d}", Ok("|d")),
            ("${NESTED}", Ok("${A}")),
            ("$A ${ A } ${1} ${A", Ok("$A ${ A } ${1} ${A")),
            ("é${A}ß", Ok("é1ß")),
            ("${B}", Err("B")),
        ] {
            let expected = expected.map(str::to_owned).map_err(|name| MissingVariable(name.to_owned()));
            assert_eq!(fill_in(text, find), expected, "{text}");
        }
    }
}
