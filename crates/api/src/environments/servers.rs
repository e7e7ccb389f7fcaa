//! What is secret of MCP servers: taken, never given.
//!
//! As with secrets, a mask that comes back keeps the value that is there, so that a client can send back what it read.

use serde_json::{Map, Value};

use super::secrets::MASK;
use crate::{Error, Result};

/// Objects all of whose values are hidden; their names are not.
const MAPS: [&str; 2] = ["env", "headers"];
const TEXTS: [&str; 2] = ["bearerToken", "clientSecret"];

/// Hides the values of a server that is shown.
pub(crate) fn mask(mut server: Value) -> Value {
    let Value::Object(fields) = &mut server else { return server };
    for text in TEXTS {
        if let Some(value) = fields.get_mut(text) {
            *value = MASK.into();
        }
    }
    for name in MAPS {
        if let Some(Value::Object(values)) = fields.get_mut(name) {
            values.values_mut().for_each(|value| *value = MASK.into());
        }
    }
    server
}

/// Puts the values that are there in place of the masks that were sent. Servers are known by their names.
///
/// # Errors
/// 400 for a mask in a place where there is no value.
pub(super) fn unmask(sent: &mut [Value], known: &[Value]) -> Result<()> {
    for (index, server) in sent.iter_mut().enumerate() {
        let Value::Object(server) = server else { continue };
        let before = known.iter().find(|known| known.get("name") == server.get("name")).and_then(Value::as_object);
        let at = |name: &str| format!("mcpServers[{index}].{name}");
        for text in TEXTS {
            keep(server, before, text, &at)?;
        }
        for map in MAPS {
            let Some(Value::Object(values)) = server.get_mut(map) else { continue };
            let before = before.and_then(|before| before.get(map)).and_then(Value::as_object);
            let names: Vec<String> = values.keys().cloned().collect();
            for name in names {
                keep(values, before, &name, &|name| at(&format!("{map}.{name}")))?;
            }
        }
    }
    Ok(())
}

fn keep(
    values: &mut Map<String, Value>,
    before: Option<&Map<String, Value>>,
    name: &str,
    at: &dyn Fn(&str) -> String,
) -> Result<()> {
    if values.get(name).is_none_or(|value| value != MASK) {
        return Ok(());
    }
    let value = before.and_then(|before| before.get(name)).ok_or_else(|| Error::missing_field(&at(name)))?;
    values.insert(name.to_owned(), value.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_shown_can_be_sent_back() {
        let known = [
            json!({"name": "docs", "url": "https://example.com", "bearerToken": "canary"}),
            json!({"name": "local", "command": "run", "env": {"TOKEN": "canary", "LEVEL": "2"}}),
        ];
        let mut shown = known.clone().map(mask);
        assert!(!json!(shown).to_string().contains("canary"), "{shown:?}");
        shown.reverse();
        shown[0]["env"]["LEVEL"] = json!("3");
        unmask(&mut shown, &known).unwrap();
        assert_eq!(shown[1], known[0]);
        assert_eq!(shown[0]["env"], json!({"TOKEN": "canary", "LEVEL": "3"}));
        let mut new = [json!({"name": "new", "env": {"TOKEN": MASK}})];
        let refused = unmask(&mut new, &known).unwrap_err().to_string();
        assert_eq!(refused, "Missing required field: mcpServers[0].env.TOKEN");
    }
}
