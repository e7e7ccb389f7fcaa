//! Deep research, as far as it is no agent's business: what agents of a session are, what they read, and which of it their
//! report may cite. The work itself is `agents::research`.

pub(crate) mod citations;
pub(crate) mod report;
pub(crate) mod words;

use domain::{
    agent::Agent,
    environment::Environment,
    event::{Detail, LogLevel},
    research::Role,
    run::RunOptions,
    skill::BuiltIn,
};
use serde_json::{Value, json, value::RawValue};
use store::research::Page;

use crate::{
    drive::Driver,
    error::End,
    skills::Enabled,
    tools::{Scope, web},
};

/// Which tools a run may have: all, unless it is that of an agent with a part in a session.
pub(crate) fn scope(options: &RunOptions) -> Scope {
    match options.research().map(|part| part.role) {
        None => Scope::All,
        Some(Role::Reader) => Scope::Web,
        Some(Role::Planner | Role::Writer) => Scope::Nothing,
    }
}

/// A file such as research writes, for the rules about files.
pub(crate) fn written_example() -> Value {
    json!({"file_path": format!("/workspace/{}/report.md", report::DIRECTORY)})
}

/// What the model is told of a message that is to be answered by research.
pub(crate) fn reminder() -> String {
    format!(
        "The user has switched on research mode: this message is to be answered by the tool {}. Call it first, with all that \
         the message wants to know, and answer from its report. Only where the message is no question to be researched, say \
         so instead.",
        crate::tools::research::NAME
    )
}

impl Driver<'_> {
    /// Chooses the model that does deep research for the run, if it may have any done; where it cannot, that is told before
    /// the model is asked.
    pub(crate) async fn choose_research(
        &mut self,
        enabled: &Enabled,
        agent: Option<&Agent>,
        environment: &Environment,
    ) -> Result<Option<String>, End> {
        let options = &self.run.options;
        let is_wanted = options.research_mode || enabled.built_in.contains(&BuiltIn::DeepResearch);
        if !is_wanted || options.research().is_some() {
            return Ok(None);
        }
        let own = self.model(agent);
        let of_agent = agent.and_then(|agent| agent.settings.deep_research_model.as_deref());
        let named = options.deep_research_model.as_deref().or(of_agent).filter(|model| !model.trim().is_empty());
        let named = named.map(|model| self.parts.catalogue.resolve_alias(model).to_owned());
        let mut why_not = None;
        if let Some(model) = named.filter(|model| *model != own) {
            let problem = match self.parts.catalogue.find(&model) {
                None => Some(format!("there is no model {model} here")),
                Some(_) => self.searcher(&model, environment).err(),
            };
            let Some(problem) = problem else { return Ok(Some(model)) };
            why_not = Some((format!("Research is done with {own} and not with {model}: {problem}."), LogLevel::Info));
        }
        let found = match self.searcher(&own, environment) {
            Ok(_) => Some(own),
            Err(problem) => {
                why_not = Some((format!("The run goes on without deep_research: {problem}."), LogLevel::Warning));
                None
            }
        };
        if let Some((message, level)) = why_not.filter(|_| self.run.turns == 0) {
            self.log(level, "skills", message).await?;
        }
        Ok(found)
    }

    /// Writes down what an agent of a session has found or read, before its model learns of it. `input` is that of the call.
    pub(crate) async fn note_sources(&self, input: Option<&RawValue>, detail: Option<&Detail>) -> Result<(), End> {
        let (Some(part), Some(agents), Some(detail)) = (self.run.options.research(), &self.agents, detail) else {
            return Ok(());
        };
        let store = &self.parts.store;
        match detail {
            Detail::Fetch { url, title, hash: Some(hash), .. } => {
                let requested = input.and_then(web::requested).unwrap_or_else(|| url.clone());
                let (url, title, hash) = (url.clone(), title.clone(), hash.clone());
                let (lease, page) = (self.lease.renewal(), Page { url, requested, title, hash });
                agents.patiently(|| store.record_research_page(&lease, &part.session, &page)).await
            }
            Detail::WebSearch { hits, .. } if !hits.is_empty() => {
                agents.patiently(|| store.record_research_hits(&part.session, hits)).await
            }
            _ => Ok(()),
        }
    }
}
