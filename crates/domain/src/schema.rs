//! A JSON Schema that the answer of a run must satisfy.
//!
//! Schemas come from clients and answers from models, so nothing of them may reach out or take long: references to other
//! documents are refused, and patterns run on an engine without backtracking.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

/// Mistakes of an answer that are told; one that is all wrong has thousands.
const MAX_MISTAKES: usize = 10;

/// A schema, ready to be held against answers.
#[derive(Debug)]
pub struct Schema(Validator);

/// A schema that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON Schema that can be used: {0}")]
pub struct InvalidSchema(pub String);

/// An answer that does not satisfy its schema; what is wrong, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

impl Schema {
    /// Reads a schema: an object, of draft 2020-12 unless it names another.
    pub fn parse(schema: &Value) -> Result<Self, InvalidSchema> {
        if !schema.is_object() {
            return Err(InvalidSchema("it must be an object".into()));
        }
        let validator = jsonschema::options().with_pattern_options(PatternOptions::regex()).build(schema);
        validator.map(Self).map_err(|err| InvalidSchema(err.to_string()))
    }

    /// Checks an answer and gives its JSON: the whole text, or what stands in its one fenced block.
    pub fn check<'a>(&self, answer: &'a str) -> Result<&'a str, Mismatch> {
        let json = without_fence(answer);
        let value: Value = serde_json::from_str(json).map_err(|err| Mismatch(format!("it is not JSON: {err}")))?;
        let mistakes: Vec<String> = self
            .0
            .iter_errors(&value)
            .take(MAX_MISTAKES)
            .map(|err| {
                let place = err.instance_path().to_string();
                format!("{}: {err}", if place.is_empty() { "(the whole)" } else { place.as_str() })
            })
            .collect();
        if mistakes.is_empty() { Ok(json) } else { Err(Mismatch(mistakes.join("\n"))) }
    }
}

/// Takes a Markdown fence off a text that is nothing else.
fn without_fence(text: &str) -> &str {
    let text = text.trim();
    let inner =
        text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")).and_then(|rest| rest.split_once('\n'));
    match inner {
        Some((language, json)) if language.chars().all(char::is_alphanumeric) => json.trim(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Schema {
        let schema = json!({
            "type": "object", "required": ["name"], "additionalProperties": false,
            "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}, "age": {"type": "integer"}},
        });
        Schema::parse(&schema).expect("is a schema")
    }

    #[test]
    fn an_answer_is_taken_with_and_without_a_fence() {
        let json = r#"{"name": "ada", "age": 36}"#;
        for answer in
            [json.to_owned(), format!(" {json}\n"), format!("```json\n{json}\n```"), format!("```\n{json}\n```\n")]
        {
            assert_eq!(schema().check(&answer), Ok(json));
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let wrong = schema().check(r#"{"name": "Ada", "age": 1.5, "more": 1}"#).expect_err("is wrong").0;
        let places: Vec<_> = wrong.lines().filter_map(|line| line.split_once(':')).map(|(place, _)| place).collect();
        assert!(places.contains(&"/name") && places.contains(&"/age") && places.contains(&"(the whole)"), "{wrong}");
        assert!(schema().check("Here it is: {}").expect_err("is wrong").0.starts_with("it is not JSON"));
    }

    #[test]
    fn a_schema_may_not_reach_out() {
        for bad in [
            json!("x"),
            json!({"type": "nothing"}),
            json!({"$ref": "http://127.0.0.1/x"}),
            json!({"$ref": "file:///etc/passwd"}),
        ] {
            assert!(Schema::parse(&bad).is_err(), "{bad}");
        }
    }
}
