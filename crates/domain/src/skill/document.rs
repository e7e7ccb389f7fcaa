//! The open SKILL.md format: a frontmatter of YAML, then Markdown.
//!
//! Anybody may have written it. The YAML is read by a parser with limits on depth and size that takes no aliases, from a
//! frontmatter of bounded size.

use serde::{Deserialize, Serialize};

/// The longest frontmatter, in bytes.
const MAX_FRONTMATTER_BYTES: usize = 16 * 1024;

/// A SKILL.md, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    pub name: Option<String>,
    pub description: Option<String>,
    pub license: Option<String>,
    /// What follows the frontmatter.
    pub body: String,
}

/// Why a text is no SKILL.md. A sentence's end, after "the skill's text".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDocument {
    #[error("begins a frontmatter with '---' and does not end it")]
    Unended,
    #[error("has a frontmatter of more than {MAX_FRONTMATTER_BYTES} bytes")]
    TooLong,
    #[error("has a frontmatter that is not valid: {0}")]
    Yaml(String),
}

#[derive(Deserialize, Serialize, Default)]
struct Frontmatter {
    name: Option<String>,
    description: Option<String>,
    license: Option<String>,
}

impl Document {
    /// Reads a text. One without a frontmatter is all body.
    pub fn parse(text: &str) -> Result<Self, InvalidDocument> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Some(rest) =
            text.strip_prefix("---").and_then(|rest| rest.trim_start_matches([' ', '\r']).strip_prefix('\n'))
        else {
            return Ok(Self { body: text.trim().to_owned(), ..Self::default() });
        };
        let (mut yaml, mut body) = (None, "");
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim_end() == "---" {
                (yaml, body) = (Some(&rest[..at]), &rest[at + line.len()..]);
                break;
            }
            at += line.len();
        }
        let yaml = yaml.ok_or(InvalidDocument::Unended)?;
        if yaml.len() > MAX_FRONTMATTER_BYTES {
            return Err(InvalidDocument::TooLong);
        }
        let frontmatter: Option<Frontmatter> = serde_saphyr::from_str_with_options(yaml, limits())
            .map_err(|err| InvalidDocument::Yaml(first_line(&err.to_string())))?;
        let Frontmatter { name, description, license } = frontmatter.unwrap_or_default();
        let one_line = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(Self {
            name: name.map(one_line),
            description: description.map(one_line),
            license,
            body: body.trim().to_owned(),
        })
    }

    /// Writes the text, which [`parse`](Self::parse) reads back.
    pub fn render(&self) -> String {
        let mut text = String::from("---\n");
        for (key, value) in [("name", &self.name), ("description", &self.description), ("license", &self.license)] {
            if let Some(value) = value {
                // A string of JSON is one of YAML.
                let value = serde_json::to_string(value).expect("a string is always JSON");
                text.push_str(&format!("{key}: {value}\n"));
            }
        }
        text.push_str("---\n\n");
        text.push_str(&self.body);
        text.push('\n');
        text
    }
}

/// A few lines are all that is wanted; nobody names one by an alias, by which little would become much.
fn limits() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_aliases: 0, max_events: 10_000, max_nodes: 5_000, max_depth: 32 },
    }
}

/// The parser shows the place in a drawing of several lines.
fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontmatter_is_told_from_the_body() {
        let text = "---\nname: pdf-forms\ndescription: >\n  Fill forms.\n  Use when asked.\nmetadata: {a: 1}\nallowed-tools: [Read]\n---\n# Forms\n\n---\nrest";
        let document = Document::parse(text).expect("is valid");
        assert_eq!(document.name.as_deref(), Some("pdf-forms"));
        assert_eq!(document.description.as_deref(), Some("Fill forms. Use when asked."));
        assert_eq!(document.body, "# Forms\n\n---\nrest");
        assert_eq!(Document::parse(&document.render()), Ok(document));
        let windows = Document::parse("\u{feff}---\r\nname: a\r\n---\r\nb\r\n").expect("is valid");
        assert_eq!((windows.name.as_deref(), windows.body.as_str()), (Some("a"), "b"));
        let bare = Document::parse("# No frontmatter\n").expect("is valid");
        assert_eq!(bare, Document { body: "# No frontmatter".into(), ..Document::default() });
        assert_eq!(Document::parse("---\n---\nx").expect("is valid").body, "x");
    }

    #[test]
    fn what_is_wrong_with_a_frontmatter_is_told() {
        assert_eq!(Document::parse("---\nname: a\n"), Err(InvalidDocument::Unended));
        let long = format!("---\ndescription: {}\n---\n", "x".repeat(MAX_FRONTMATTER_BYTES));
        assert_eq!(Document::parse(&long), Err(InvalidDocument::TooLong));
        for yaml in ["name: [", "name: {a: b}", "- a\n- b", "name: 'a"] {
            let err = Document::parse(&format!("---\n{yaml}\n---\n")).expect_err(yaml);
            assert!(matches!(err, InvalidDocument::Yaml(_)), "{yaml}: {err}");
            assert!(!err.to_string().contains('\n'), "{err}");
        }
    }

    #[test]
    fn aliases_are_refused_before_they_grow() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let refs = vec![format!("*a{}", n - 1); 10].join(", ");
            yaml.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
        }
        let err = Document::parse(&format!("---\nname: x\n{yaml}---\n")).expect_err("is refused");
        assert!(matches!(err, InvalidDocument::Yaml(_)), "{err}");
    }
}
