//! What the model can call: one file per tool, with the names and inputs that Claude Code's tools have.
//!
//! Models are trained on those names, so they need no explaining and are used well. A call ends in one of three ways:
//! an [`Outcome`] that the model reads (a failed command is one too), a [`ToolError::ForModel`] that says what was wrong
//! with the call, or something that ends the run. Nothing a model writes into an input, and nothing a container answers,
//! may panic or take unbounded memory here.

pub(crate) mod agent;
mod background;
mod bash;
mod clean;
mod context;
mod diff;
mod edit;
mod glob;
mod grep;
pub mod image;
mod input;
pub(crate) mod media;
mod notebook;
mod output;
mod path;
mod progress;
mod read;
pub(crate) mod redact;
pub(crate) mod research;
mod search;
pub mod skill;
mod spill;
mod text;
mod todo;
pub mod web;
mod write;

use claude::blocks::{Base64Source, NewBlock};
pub use context::Context;
use domain::{MicroUsd, event::Detail};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// The most a result's text may have, in characters, whatever the tool.
const MAX_RESULT_CHARS: usize = 120_000;

/// Tells whether a call of the tool may change files of the workspace. One that is not known may.
pub(crate) fn changes_files(name: &str) -> bool {
    // What an agent changes is written down as its own doing.
    !matches!(name, "Agent" | "Glob" | "Grep" | "Read" | "Skill" | "TaskStop" | "TodoWrite" | "WebFetch" | "WebSearch")
}

/// Tells whether calls of the tool are the work of agents: one that was cut off goes on instead of being interrupted.
pub(crate) fn is_of_agents(name: &str) -> bool {
    matches!(name, agent::NAME | research::NAME)
}

/// Tells whether a call of the tool changes the file it names and no other.
pub(crate) fn writes_one_file(name: &str) -> bool {
    matches!(name, "Edit" | image::NAME | "Write")
}

/// Gives the task that a call wants stopped.
pub(crate) fn stopped_task(call: &claude::ToolUse) -> Option<String> {
    if call.name != "TaskStop" {
        return None;
    }
    background::task_id(call.input.as_deref().ok()?)
}

/// The tools offered to one run. The same set gives the same definitions, byte for byte, in every process.
#[derive(Debug, Clone, Copy)]
pub struct Tools {
    has_internet: bool,
    has_skills: bool,
    has_search: bool,
    images: Option<image::Ability>,
    has_agents: bool,
    has_research: bool,
    scope: Scope,
}

/// Which of the tools a run may have at all, whatever it is offered beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    All,
    /// Those that search and read the web, and nothing that changes anything: what a page says can then do no harm.
    Web,
    Nothing,
}

/// A call as the model made it, and how it is to be carried out.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    pub name: &'a str,
    pub input: &'a RawValue,
    /// Cancelled when the run shall stop: the call's processes are then killed and [`ToolError::Stopped`] is given.
    pub stop: &'a CancellationToken,
    /// Takes output while it comes: at most 20 pieces a second and 200 a call, each at most 8 KiB.
    pub show: &'a (dyn Fn(String) + Send + Sync),
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// For the model. Text is valid, bounded and without NUL; it may be empty.
    pub content: Vec<ResultBlock>,
    pub is_error: bool,
    /// The same for people and programs.
    pub detail: Option<Detail>,
    /// What somebody else charges for it.
    pub cost: MicroUsd,
}

/// A block of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultBlock {
    Text(String),
    /// `data` is base64.
    Image {
        media_type: &'static str,
        data: String,
    },
    /// `data` is base64.
    Document {
        media_type: &'static str,
        data: String,
    },
}

impl ResultBlock {
    /// Gives the block as the model is sent it.
    pub(crate) fn to_block(&self) -> NewBlock<'_> {
        match self {
            Self::Text(text) => NewBlock::Text { text },
            Self::Image { media_type, data } => NewBlock::Image { source: Base64Source { media_type, data } },
            Self::Document { media_type, data } => NewBlock::Document { source: Base64Source { media_type, data } },
        }
    }
}

/// Why a call has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The model's mistake, or something that it can deal with: it becomes an error result.
    #[error("{0}")]
    ForModel(String),
    /// Not a failure: the run shall stop. The call's processes are gone.
    #[error("stopped")]
    Stopped,
    /// No call of this run can succeed.
    #[error("the computer cannot be used")]
    Fatal(#[source] sandbox::Error),
}

impl Outcome {
    pub(crate) fn text(text: impl Into<String>, detail: Option<Detail>) -> Self {
        Self { content: vec![ResultBlock::Text(text.into())], is_error: false, detail, cost: MicroUsd::default() }
    }

    /// Gives all text of the result.
    pub fn to_text(&self) -> String {
        let texts = self.content.iter().filter_map(|block| match block {
            ResultBlock::Text(text) => Some(text.as_str()),
            ResultBlock::Image { .. } | ResultBlock::Document { .. } => None,
        });
        texts.collect::<Vec<_>>().join("\n")
    }
}

impl Tools {
    /// `has_internet` says whether the run may reach the internet; without, there is no WebFetch.
    pub fn new(has_internet: bool) -> Self {
        Self {
            has_internet,
            has_skills: false,
            has_search: false,
            images: None,
            has_agents: false,
            has_research: false,
            scope: Scope::All,
        }
    }

    /// With the tool that gives skills' texts; the run's [`Context`] must have skills.
    #[must_use]
    pub fn with_skills(self, has_skills: bool) -> Self {
        Self { has_skills, ..self }
    }

    /// With a search of our own; the run's [`Context`] must have an engine.
    #[must_use]
    pub fn with_search(self, has_search: bool) -> Self {
        Self { has_search, ..self }
    }

    /// With the tool that makes pictures; the run's [`Context`] must have a provider.
    #[must_use]
    pub fn with_images(self, images: Option<image::Ability>) -> Self {
        Self { images, ..self }
    }

    /// With the tool that calls agents, which is carried out by whoever drives the run.
    #[must_use]
    pub(crate) fn with_agents(self, has_agents: bool) -> Self {
        Self { has_agents, ..self }
    }

    /// With the tool that researches a question, which is carried out by whoever drives the run.
    #[must_use]
    pub(crate) fn with_research(self, has_research: bool) -> Self {
        Self { has_research, ..self }
    }

    /// With no tools beyond a scope, also where the model calls one that it was not offered.
    #[must_use]
    pub(crate) fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    pub(crate) fn has_internet(self) -> bool {
        self.has_internet
    }

    /// Describes the tools to the model, sorted by name.
    pub fn definitions(self) -> Vec<claude::Tool> {
        self.all().map(|(name, description, schema)| definition(name, description, schema)).collect()
    }

    /// Tells whether a call may run beside others of its kind: it only looks, or is an agent's work. All others keep the
    /// order the model gave.
    pub fn is_parallel_safe(self, name: &str) -> bool {
        matches!(name, "Agent" | research::NAME | "Glob" | "Grep" | "Read" | "Skill" | "WebFetch" | "WebSearch")
    }

    /// Carries a call out.
    ///
    /// # Errors
    /// See [`ToolError`]. A command that fails is no error but an outcome with `is_error`.
    pub async fn call(self, cx: &Context, call: Call<'_>) -> Result<Outcome, ToolError> {
        if call.stop.is_cancelled() {
            return Err(ToolError::Stopped);
        }
        if self.scope != Scope::All && !self.all().any(|(name, ..)| name == call.name) {
            return clean(cx, Err(self.unknown(call.name)));
        }
        let result = match call.name {
            // These stop by themselves: they have processes to see dead first.
            "Bash" => bash::call(cx, call).await,
            name => {
                let work = async {
                    match name {
                        "Edit" => edit::call(cx, call.input).await,
                        image::NAME if self.images.is_some() => image::call(cx, call.input).await,
                        "Glob" => glob::call(cx, call.input).await,
                        "Grep" => grep::call(cx, call.input).await,
                        "Read" => read::call(cx, call.input).await,
                        "Skill" if self.has_skills => skill::call(cx, call.input).await,
                        "TaskStop" => background::stop(cx, call.input).await,
                        "TodoWrite" => todo::call(call.input),
                        "WebFetch" if self.has_internet => web::call(cx, call.input).await,
                        "WebSearch" if self.has_search => web::search::call(cx, call.input).await,
                        "Write" => write::call(cx, call.input).await,
                        _ => Err(self.unknown(name)),
                    }
                };
                call.stop.run_until_cancelled(work).await.unwrap_or(Err(ToolError::Stopped))
            }
        };
        clean(cx, result)
    }

    fn unknown(self, name: &str) -> ToolError {
        let names: Vec<_> = self.all().map(|(name, ..)| name).collect();
        let name = text::shorten(name, 100);
        ToolError::ForModel(format!("There is no tool named {name:?}. The tools are: {}.", names.join(", ")))
    }

    fn all(self) -> impl Iterator<Item = Definition> {
        let all = [
            agent::DEFINITION,
            bash::DEFINITION,
            research::DEFINITION,
            edit::DEFINITION,
            if self.images == Some(image::Ability::Change) { image::CHANGES } else { image::MAKES },
            glob::DEFINITION,
            grep::DEFINITION,
            read::DEFINITION,
            skill::DEFINITION,
            background::DEFINITION,
            todo::DEFINITION,
            web::DEFINITION,
            web::search::DEFINITION,
            write::DEFINITION,
        ];
        let is_within = move |name: &str| match self.scope {
            Scope::All => true,
            Scope::Web => matches!(name, "WebFetch" | "WebSearch"),
            Scope::Nothing => false,
        };
        all.into_iter().filter(move |(name, ..)| is_within(name)).filter(move |(name, ..)| match *name {
            "Agent" => self.has_agents,
            research::NAME => self.has_research,
            image::NAME => self.images.is_some(),
            "Skill" => self.has_skills,
            "WebFetch" => self.has_internet,
            "WebSearch" => self.has_search,
            _ => true,
        })
    }
}

/// Takes secrets out of what a call gave, and cuts it to length.
pub(crate) fn clean(cx: &Context, result: Result<Outcome, ToolError>) -> Result<Outcome, ToolError> {
    // Before anything is cut: a half of a secret would not be found.
    let redactor = &cx.redactor;
    let mut outcome = match result {
        Err(ToolError::ForModel(text)) => {
            return Err(ToolError::ForModel(text::cap(redactor.redact(text), MAX_RESULT_CHARS)));
        }
        other => other?,
    };
    // Of several texts all together may not be longer either.
    let mut room = MAX_RESULT_CHARS;
    for block in &mut outcome.content {
        if let ResultBlock::Text(text) = block {
            *text = text::cap(redactor.redact(std::mem::take(text)), room);
            room = room.saturating_sub(text.chars().count());
        }
    }
    outcome.detail = outcome.detail.map(|detail| redactor.redact_detail(detail));
    Ok(outcome)
}

/// Name, description, JSON schema of the input. The schema is a literal so that its bytes never change.
type Definition = (&'static str, &'static str, &'static str);

fn definition(name: &str, description: &str, schema: &str) -> claude::Tool {
    let input_schema =
        RawValue::from_string(schema.to_owned()).expect("schemas are literals, and a test reads them all");
    claude::Tool { name: name.to_owned(), description: description.to_owned(), input_schema }
}

/// Describes a new file for the people who watch.
pub(crate) fn written(path: &str, content: &str) -> Detail {
    diff::detail(path, None, content)
}

fn for_model(text: impl Into<String>) -> ToolError {
    ToolError::ForModel(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sorted_and_never_change_unnoticed() {
        let definitions = Tools::new(true)
            .with_skills(true)
            .with_search(true)
            .with_images(Some(image::Ability::Change))
            .with_research(true)
            .definitions();
        assert!(definitions.is_sorted_by_key(|tool| tool.name.clone()));
        let json = serde_json::to_string_pretty(&definitions).unwrap();
        insta::assert_snapshot!("definitions", json);
        let names: Vec<_> = Tools::new(false).definitions().into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["Bash", "Edit", "Glob", "Grep", "Read", "TaskStop", "TodoWrite", "Write"]);
    }

    #[test]
    fn what_is_out_of_scope_is_offered_to_nobody() {
        let all = Tools::new(true).with_search(true).with_agents(true).with_research(true).with_skills(true);
        let names = |scope| all.within(scope).definitions().into_iter().map(|tool| tool.name).collect::<Vec<_>>();
        assert_eq!(names(Scope::Web), ["WebFetch", "WebSearch"]);
        assert_eq!(names(Scope::Nothing), Vec::<String>::new());
    }

    #[test]
    fn every_required_input_is_described() {
        for tool in
            Tools::new(true).with_skills(true).with_search(true).with_images(Some(image::Ability::Change)).definitions()
        {
            let schema: serde_json::Value = serde_json::from_str(tool.input_schema.get()).unwrap();
            assert_eq!(schema["type"], "object", "{}", tool.name);
            assert_eq!(schema["additionalProperties"], false, "{}", tool.name);
            for name in schema["required"].as_array().unwrap() {
                assert!(schema["properties"][name.as_str().unwrap()].is_object(), "{} {name}", tool.name);
            }
        }
    }
}
