//! What to answer when: rules in a file, rules in a test, or a function.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::asked::Detail;
use crate::{Asked, Block, Reply, builtin};

/// A script. The first rule that fits answers; without one the answer says so.
#[derive(Clone)]
pub struct Script {
    name: String,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Rules(Arc<Vec<(Rule, Used)>>),
    Function(Arc<dyn Fn(&Asked) -> Reply + Send + Sync>, Detail),
}

/// How often a rule has answered.
type Used = Arc<AtomicUsize>;

/// When to answer what.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    pub when: When,
    pub reply: Reply,
    /// How often the rule applies; always, where it is left out. This is the one thing a script remembers.
    pub times: Option<usize>,
}

/// What must be true of a request; everything that is given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// The user's last message contains this text.
    pub text_contains: Option<String>,
    /// The user's last message matches this regular expression.
    pub text_matches: Option<String>,
    /// So many rounds of tool results came since the user's last text.
    pub round: Option<usize>,
    /// A result of the newest round contains this text.
    pub result_contains: Option<String>,
    /// Some, or none, of the newest results is an error.
    pub result_is_error: Option<bool>,
    /// The request names this model.
    pub model: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Rule>,
}

impl Script {
    /// A script of rules.
    /// # Errors
    /// When a regular expression is none.
    pub fn rules(rules: impl IntoIterator<Item = Rule>) -> anyhow::Result<Self> {
        let rules: Vec<(Rule, Used)> = rules.into_iter().map(|rule| (rule, Used::default())).collect();
        for pattern in rules.iter().filter_map(|(rule, _)| rule.when.text_matches.as_ref()) {
            Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
        }
        Ok(Self { name: "rules".into(), source: Source::Rules(Arc::new(rules)) })
    }

    /// Answers the n-th request with the n-th reply, whatever is asked, and every later one with the last.
    pub fn sequence(replies: impl IntoIterator<Item = Reply>) -> Self {
        let replies: Vec<Reply> = replies.into_iter().collect();
        let next = AtomicUsize::new(0);
        Self::from_fn("sequence", move |_| {
            let at = next.fetch_add(1, Ordering::Relaxed);
            replies.get(at).or(replies.last()).cloned().unwrap_or_default()
        })
    }

    /// A script that is a function of the request.
    pub fn from_fn(name: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), source: Source::Function(Arc::new(answer), Detail::Everything) }
    }

    pub(crate) fn from_rounds(name: &str, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self { name: name.to_owned(), source: Source::Function(Arc::new(answer), Detail::Rounds) }
    }

    /// A built-in script by name (`first-task`, `echo`, `bench`), which expects its files under `workspace`.
    pub fn builtin(name: &str, workspace: &str) -> Option<Self> {
        builtin::find(name, workspace)
    }

    /// Reads rules from a TOML or JSON file.
    /// # Errors
    /// When the file cannot be read or is not a script.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read script {}", path.display()))?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let file: File = if is_json { serde_json::from_str(&text)? } else { toml::from_str(&text)? };
        let mut script = Self::rules(file.rules)?;
        script.name = path.display().to_string();
        Ok(script)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn detail(&self) -> Detail {
        match &self.source {
            Source::Rules(_) => Detail::Everything,
            Source::Function(_, detail) => *detail,
        }
    }

    /// The answer to a request, its placeholders filled in.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        match &self.source {
            Source::Function(answer, _) => answer(asked),
            Source::Rules(rules) => {
                let fitting = rules.iter().find(|(rule, used)| {
                    // Counted only when the rest fits, and then at once, so that two requests do not share one turn.
                    rule.when.fits(asked) && rule.times.is_none_or(|times| take(used, times))
                });
                match fitting {
                    Some((rule, _)) => filled(rule.reply.clone(), asked),
                    None => Reply::text(format!(
                        "The script {:?} has no rule for this request (round {}): {}",
                        self.name, asked.round, asked.user_text
                    )),
                }
            }
        }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Script").field(&self.name).finish()
    }
}

/// Takes one of `times` uses, if one is left.
fn take(used: &AtomicUsize, times: usize) -> bool {
    used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < times).then_some(used + 1)).is_ok()
}

impl When {
    fn fits(&self, asked: &Asked) -> bool {
        self.text_contains.as_ref().is_none_or(|text| asked.user_message.contains(text))
            && self
                .text_matches
                .as_ref()
                .is_none_or(|pattern| Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(&asked.user_message)))
            && self.round.is_none_or(|round| asked.round == round)
            && self.result_contains.as_ref().is_none_or(|text| asked.last_result_text().contains(text))
            && self.result_is_error.is_none_or(|wanted| asked.last_results().any(|result| result.is_error) == wanted)
            && self.model.as_ref().is_none_or(|model| asked.model == *model)
    }
}

fn filled(mut reply: Reply, asked: &Asked) -> Reply {
    let fill = |text: &str| {
        if !text.contains("{{") {
            return text.to_owned();
        }
        text.replace("{{user_text}}", &asked.user_text)
            .replace("{{last_tool_result}}", asked.last_result_text().trim())
            .replace("{{round}}", &asked.round.to_string())
            .replace("{{model}}", &asked.model)
    };
    for block in &mut reply.blocks {
        match block {
            Block::Text { text } => *text = fill(text),
            Block::Thinking { thinking } => *thinking = fill(thinking),
            Block::ToolUse { input, .. } => fill_strings(input, &fill),
            Block::Raw { .. } => {}
        }
    }
    reply
}

fn fill_strings(value: &mut Value, fill: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = fill(text),
        Value::Array(items) => items.iter_mut().for_each(|item| fill_strings(item, fill)),
        Value::Object(fields) => fields.values_mut().for_each(|field| fill_strings(field, fill)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
