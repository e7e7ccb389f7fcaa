//! `atelier config`: every setting, its value and its source, as a file that could be used again.

use std::fmt::Write;

use figment::value::{Dict, Value};

use super::Loaded;

/// Settings whose value is never shown.
const SECRETS: [&str; 12] = [
    "database.url",
    "model.api_key",
    "model.custom_headers",
    "builds.pip_index",
    "builds.npm_registry",
    "builds.http_proxy",
    "builds.https_proxy",
    "search.brave_key",
    "search.tavily_key",
    "images.openai_key",
    "images.gemini_key",
    "telemetry.otlp_headers",
];

impl Loaded {
    /// Writes all settings as TOML with comments.
    pub(crate) fn show(&self) -> String {
        let mut text = String::new();
        let sections = [
            "server",
            "preview",
            "database",
            "model",
            "sandbox",
            "profiles",
            "history",
            "git",
            "builds",
            "search",
            "images",
            "mcp",
            "webhooks",
            "runs",
            "agents",
            "research",
            "events",
            "limits",
            "tiers",
            "log",
            "telemetry",
        ];
        for section in sections {
            let Ok(Value::Dict(_, settings)) = self.figment.find_value(section) else { continue };
            self.show_section(&mut text, section, &settings);
        }
        text
    }

    fn show_section(&self, text: &mut String, section: &str, settings: &Dict) {
        let (subsections, values): (Vec<_>, Vec<_>) =
            settings.iter().partition(|(_, value)| matches!(value, Value::Dict(..)));
        if !values.is_empty() {
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{gap}[{section}]");
        }
        for (name, value) in values {
            let setting = format!("{section}.{name}");
            let shown = match show_value(value) {
                shown if shown != "\"\"" && SECRETS.contains(&setting.as_str()) => "\"***\"".to_owned(),
                shown => shown,
            };
            let source = self.source(&setting);
            let comment = if source == "the defaults" { String::new() } else { format!("  # from {source}") };
            let _ = writeln!(text, "{name} = {shown}{comment}");
        }
        for (name, value) in subsections {
            if let Value::Dict(_, settings) = value {
                self.show_section(text, &format!("{section}.{name}"), settings);
            }
        }
    }
}

fn show_value(value: &Value) -> String {
    match value {
        Value::Array(_, values) => format!("[{}]", values.iter().map(show_value).collect::<Vec<_>>().join(", ")),
        Value::Bool(_, value) => value.to_string(),
        Value::Num(_, number) => match (number.to_i128(), number.to_f64()) {
            (Some(whole), _) => whole.to_string(),
            (None, Some(fraction)) => format!("{fraction:?}"),
            (None, None) => number.to_u128().map(|whole| whole.to_string()).unwrap_or_default(),
        },
        Value::String(_, text) => format!("{text:?}"),
        Value::Char(_, letter) => format!("\"{letter}\""),
        Value::Dict(..) | Value::Empty(..) => "\"\"".to_owned(),
    }
}
