//! Looking over a JSON body before anything is built from it.
//!
//! What the parser would accept and the rest of the server could not bear is refused here: nesting deep enough to exhaust
//! a stack somewhere later, and NUL, which Postgres cannot store in text. One pass over the bytes, no allocation; the
//! parser remains the judge of the syntax.

use crate::{Error, Result};

/// Checks that `body` is an object, nests at most `max_depth` deep and has no NUL in any string.
pub(crate) fn check(body: &[u8], max_depth: usize) -> Result<()> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') | None => {}
        Some(b'[' | b'"' | b'-' | b'0'..=b'9') => return Err(Error::bad_request("The body must be a JSON object")),
        // What is not JSON at all gets the parser's message, with the position.
        Some(_) => {}
    }
    let mut depth = 0_usize;
    let mut is_string = false;
    let mut bytes = body.iter().enumerate();
    while let Some((position, byte)) = bytes.next() {
        match (is_string, byte) {
            (true, b'"') => is_string = false,
            (true, b'\\') => {
                if body[position + 1..].starts_with(b"u0000") {
                    return Err(Error::bad_request(r"The body has the character NUL (\u0000) in a string"));
                }
                bytes.next();
            }
            (true, _) => {}
            (false, b'"') => is_string = true,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > max_depth {
                    return Err(Error::bad_request(format!("The body nests more than {max_depth} levels deep")));
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_nul_are_found_whatever_stands_around_them() {
        for good in
            [r#"{}"#, r#" {"a":[[1]]}"#, r#"{"a":"[[[[[[{{{"}"#, r#"{"a":"\\u0000"}"#, r#"{"a":"\"[[[["}"#, "", "tru"]
        {
            assert!(check(good.as_bytes(), 3).is_ok(), "{good}");
        }
        for bad in
            [r#"{"a":[[[1]]]}"#, r#"{"a":"\u0000"}"#, r#"{"\u0000":1}"#, r#"{"a":"\\\u0000"}"#, "[]", "\"x\"", "5"]
        {
            assert!(check(bad.as_bytes(), 3).is_err(), "{bad}");
        }
    }
}
