//! Reading what the model wrote as a call's input, forgiving where the meaning is plain.
//!
//! Models write `"120000"` for a number and `"true"` for a boolean now and then. Taking it costs nothing; refusing it
//! costs a turn. Anything else that is wrong is answered with one sentence that names the field.

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::value::RawValue;

use super::{ToolError, for_model};

/// Reads the input of the tool `name`.
pub(super) fn parse<T: DeserializeOwned>(name: &str, input: &RawValue) -> Result<T, ToolError> {
    let json = match input.get().trim() {
        "" | "null" => "{}",
        json => json,
    };
    // A struct would also be read from an array, field by field.
    if !json.starts_with('{') {
        return Err(for_model(format!("The input of {name} is not a JSON object. Nothing was done.")));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|err| {
        let path = err.path().to_string();
        let why = err.inner().to_string();
        // Where in the JSON text it is means nothing to its author.
        let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
        let at = if path == "." { String::new() } else { format!(" in `{path}`") };
        for_model(format!("The input of {name} is not valid: {why}{at}. Nothing was done."))
    })
}

/// A whole number that is not negative, perhaps written as text or as `5.0`.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Whole(u64),
        Float(f64),
        Text(String),
        Null(()),
    }
    let wrong = || D::Error::custom("expected a whole number that is not negative");
    match Loose::deserialize(deserializer).map_err(|_| wrong())? {
        Loose::Whole(number) => Ok(Some(number)),
        Loose::Float(number) if number >= 0.0 && number.fract() == 0.0 && number < 1e15 => Ok(Some(number as u64)),
        Loose::Float(_) => Err(wrong()),
        Loose::Text(text) => text.trim().parse().map(Some).map_err(|_| wrong()),
        Loose::Null(()) => Ok(None),
    }
}

/// A boolean, perhaps written as text.
pub(super) fn boolean<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Bool(bool),
        Text(String),
        Null(()),
    }
    let wrong = || D::Error::custom("expected true or false");
    match Loose::deserialize(deserializer).map_err(|_| wrong())? {
        Loose::Bool(value) => Ok(Some(value)),
        Loose::Text(text) => text.trim().parse().map(Some).map_err(|_| wrong()),
        Loose::Null(()) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Example {
        name: String,
        #[serde(default, deserialize_with = "number")]
        count: Option<u64>,
        #[serde(default, deserialize_with = "boolean")]
        deep: Option<bool>,
    }

    fn read(json: &str) -> Result<Example, String> {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        parse("Example", &raw).map_err(|err| err.to_string())
    }

    #[test]
    fn a_plain_meaning_is_taken() {
        let expected = Example { name: "x".into(), count: Some(5), deep: Some(true) };
        for json in [
            r#"{"name":"x","count":5,"deep":true}"#,
            r#"{"name":"x","count":"5","deep":"true"}"#,
            r#"{"name":"x","count":5.0,"deep":true,"more":[1]}"#,
        ] {
            assert_eq!(read(json), Ok(Example { name: "x".into(), count: Some(5), deep: Some(true) }), "{json}");
        }
        assert_eq!(
            read(r#"{"name":"x","count":null,"deep":null}"#),
            Ok(Example { count: None, deep: None, ..expected })
        );
    }

    #[test]
    fn a_mistake_is_one_sentence_that_names_the_field() {
        for (json, sentence) in [
            ("null", "The input of Example is not valid: missing field `name`. Nothing was done."),
            ("{}", "The input of Example is not valid: missing field `name`. Nothing was done."),
            (
                r#"{"name":7}"#,
                "The input of Example is not valid: invalid type: integer `7`, expected a string in `name`. Nothing was done.",
            ),
            (
                r#"{"name":"x","count":-1}"#,
                "The input of Example is not valid: expected a whole number that is not negative in `count`. Nothing was done.",
            ),
            (
                r#"{"name":"x","deep":"maybe"}"#,
                "The input of Example is not valid: expected true or false in `deep`. Nothing was done.",
            ),
            (r#"["x"]"#, "The input of Example is not a JSON object. Nothing was done."),
            (r#""x""#, "The input of Example is not a JSON object. Nothing was done."),
        ] {
            assert_eq!(read(json), Err(sentence.to_owned()), "{json}");
        }
    }
}
