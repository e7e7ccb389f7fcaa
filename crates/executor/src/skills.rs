//! Which skills a run has: those that its message names, else those of its agent.

use domain::{
    agent::Agent,
    environment::Environment,
    event::LogLevel,
    permission::Access,
    skill::{BuiltIn, Skill},
};
use sandbox::Workspace;
use serde_json::value::RawValue;

use crate::{
    Options,
    drive::Driver,
    error::End,
    tools::{image::Images, skill::Library, web::search::Search},
};

/// Who searches the web for a run.
pub(crate) enum Searcher {
    Backend,
    Engine(Search),
}

/// What is switched on for a run.
#[derive(Debug, Default)]
pub(crate) struct Enabled {
    pub built_in: Vec<BuiltIn>,
    pub custom: Vec<Skill>,
}

impl Enabled {
    /// Gives the names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        let built_in = self.built_in.iter().map(|skill| skill.as_str().to_owned());
        built_in.chain(self.custom.iter().map(|skill| skill.id.to_string()))
    }
}

impl Driver<'_> {
    /// Finds the skills that are switched on for the run. One that was deleted since is told of and left out.
    pub(crate) async fn find_skills(&mut self, agent: Option<&Agent>) -> Result<Enabled, End> {
        let of_agent = agent.map(|agent| agent.settings.enabled_skills.as_slice()).unwrap_or_default();
        let names = self.run.options.enabled_skills.as_deref().unwrap_or(of_agent);
        let mut enabled = Enabled::default();
        let mut named = Vec::new();
        for name in names {
            match BuiltIn::find(name) {
                Some(built_in) if enabled.built_in.contains(&built_in) => {}
                Some(built_in) => enabled.built_in.push(built_in),
                None => named.push(name.clone()),
            }
        }
        enabled.custom = self.parts.store.list_named_skills(&self.run.project_id, &named).await?;
        let is_missing = |name: &&String| {
            !enabled.custom.iter().any(|skill| skill.id.as_str() == name.as_str() || skill.slug == **name)
        };
        let missing: Vec<_> = named.iter().filter(is_missing).cloned().collect();
        enabled.custom.retain(|skill| skill.is_active);
        if !missing.is_empty() && self.run.turns == 0 {
            let message =
                format!("The run goes on without skills that are not there any more: {}.", missing.join(", "));
            self.log(LogLevel::Warning, "skills", message).await?;
        }
        Ok(enabled)
    }

    /// Puts a run's custom skills together with those of its workspace.
    pub(crate) async fn library(&self, custom: Vec<Skill>, workspace: &Workspace) -> Option<Library> {
        let found = workspace.list_skills().await;
        let library = Library::new(self.parts.store.clone(), self.run.project_id.clone(), custom, found);
        (!library.is_empty()).then_some(library)
    }

    /// Decides who searches the web for the run: its model's back end, an engine of ours (which is given), or nobody, which
    /// is told before the model is asked.
    pub(crate) async fn choose_search(
        &mut self,
        enabled: &Enabled,
        agent: Option<&Agent>,
        environment: &Environment,
    ) -> Result<Option<Search>, End> {
        if !enabled.built_in.contains(&BuiltIn::WebSearch) {
            return Ok(None);
        }
        let why_not = match self.searcher(&self.model(agent), environment) {
            Ok(Searcher::Backend) => {
                self.searches_by_backend = true;
                return Ok(None);
            }
            Ok(Searcher::Engine(engine)) => return Ok(Some(engine)),
            Err(why_not) => why_not,
        };
        if self.run.turns == 0 {
            let message = format!("The run goes on without web_search: {why_not}.");
            self.log(LogLevel::Warning, "skills", message).await?;
        }
        Ok(None)
    }

    /// Finds who searches the web for a run with a model, or says why nobody does.
    pub(crate) fn searcher(&self, model: &str, environment: &Environment) -> Result<Searcher, String> {
        let (options, catalogue) = (&self.parts.options, &self.parts.catalogue);
        let access = domain::permission::judge(&self.permissions, "WebSearch", &serde_json::Value::Null).access;
        let has_internet = environment.settings.internet_access && self.run.options.internet_access != Some(false);
        // A back end does not ask before it searches.
        let by_backend = has_internet
            && access == Access::Allow
            && options.search.uses_backend
            && catalogue.find(model).is_some_and(|model| model.web_search.is_some());
        match &options.search.engine {
            _ if by_backend => Ok(Searcher::Backend),
            _ if !has_internet => Err("this run has no internet".to_owned()),
            _ if access == Access::Deny => Err("its permissions deny it".to_owned()),
            Some(engine) => Ok(Searcher::Engine(engine.clone())),
            None if options.search.uses_backend && access == Access::Ask => {
                Err("its permissions want to be asked, and the model's back end does not ask".to_owned())
            }
            None => Err(no_search(model)),
        }
    }

    /// Decides who makes pictures for the run; where nobody can, that is told before the model is asked.
    pub(crate) async fn choose_images(
        &mut self,
        enabled: &Enabled,
        environment: &Environment,
    ) -> Result<Option<Images>, End> {
        if !enabled.built_in.contains(&BuiltIn::ImageGeneration) {
            return Ok(None);
        }
        let has_internet = environment.settings.internet_access && self.run.options.internet_access != Some(false);
        let why_not = match &self.parts.options.images {
            // What a prompt holds would leave by it.
            Some(images) if !has_internet && !images.is_local() => "this run has no internet",
            Some(images) => return Ok(Some(images.clone())),
            None => NO_IMAGES,
        };
        if self.run.turns == 0 {
            let message = format!("The run goes on without image_generation: {why_not}.");
            self.log(LogLevel::Warning, "skills", message).await?;
        }
        Ok(None)
    }

    /// Gives the tools that a model's back end runs itself for the run.
    pub(crate) fn server_tools(&self, model: &str) -> Vec<Box<RawValue>> {
        let version = self.parts.catalogue.find(model).and_then(|model| model.web_search.as_deref());
        let version = version.filter(|_| self.searches_by_backend);
        version.map(|version| self.parts.options.search.backend.definition(version)).into_iter().collect()
    }
}

/// Says why a built-in skill cannot be used with a model on this server; `None` if it can.
pub fn why_unavailable(
    options: &Options,
    catalogue: &claude::Catalogue,
    skill: BuiltIn,
    model: &str,
) -> Option<String> {
    let model = catalogue.resolve_alias(model);
    match skill {
        // It searches, too.
        BuiltIn::WebSearch | BuiltIn::DeepResearch => {
            let has_own = catalogue.find(model).is_some_and(|model| model.web_search.is_some());
            let is_searched = options.search.engine.is_some() || options.search.uses_backend && has_own;
            (!is_searched).then(|| no_search(model))
        }
        BuiltIn::ImageGeneration => options.images.is_none().then(|| NO_IMAGES.to_owned()),
    }
}

const NO_IMAGES: &str = "no provider of pictures is set up on this server (images.provider)";

fn no_search(model: &str) -> String {
    format!("no search engine is set up on this server (search.provider), and {model} has none of its own here")
}
