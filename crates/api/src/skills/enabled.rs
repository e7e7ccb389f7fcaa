//! Which skills may be switched on: those that there are.

use std::sync::Arc;

use domain::{AgentId, ProjectId, run::RunOptions, skill::BuiltIn};

use crate::{Api, Error, Result, check::Fields};

/// Says why a built-in skill cannot be used with a model on this server; `None` if it can.
pub type WhyUnavailable = Arc<dyn Fn(BuiltIn, &str) -> Option<String> + Send + Sync>;

/// How many skills one agent or message has.
const MAX_ENABLED: usize = 200;

/// Checks the `enabledSkills` of an agent or a message.
///
/// # Errors
/// 400 with the name of each that is neither built in nor a skill of the project.
pub(crate) async fn check_enabled(api: &Api, project: &ProjectId, names: &[String]) -> Result<()> {
    let mut fields = Fields::default();
    if names.len() > MAX_ENABLED {
        fields.refuse("enabledSkills", format!("must be at most {MAX_ENABLED}"));
        return fields.finish();
    }
    let custom: Vec<String> = names.iter().filter(|name| BuiltIn::find(name).is_none()).cloned().collect();
    let found = api.store.list_named_skills(project, &custom).await?;
    for (n, name) in names.iter().enumerate() {
        let is_known = BuiltIn::find(name).is_some()
            || found.iter().any(|skill| skill.id.as_str() == name.as_str() || skill.slug == *name);
        if !is_known {
            let built_in = BuiltIn::ALL.map(BuiltIn::as_str).join(", ");
            let message =
                format!("there is no skill {name:?}: it must be one of {built_in}, or the id of a custom skill");
            fields.refuse(format!("enabledSkills[{n}]"), message);
        }
    }
    fields.finish()
}

/// Checks that the built-in skills that a message names can be used with the model that will work on it. What its agent has
/// beside that is not a request, and is told in the run.
///
/// # Errors
/// 400 with the reason.
pub(crate) async fn check_available(
    api: &Api,
    project: &ProjectId,
    agent: Option<&AgentId>,
    options: &RunOptions,
) -> Result<()> {
    let names = options.enabled_skills.as_deref().unwrap_or_default();
    let mut built_in: Vec<BuiltIn> = names.iter().filter_map(|name| BuiltIn::find(name)).collect();
    if options.research_mode && !built_in.contains(&BuiltIn::DeepResearch) {
        built_in.push(BuiltIn::DeepResearch);
    }
    let Some(why_unavailable) = api.why_unavailable.as_ref().filter(|_| !built_in.is_empty()) else { return Ok(()) };
    let agent = match agent {
        Some(id) => api.store.find_agent(project, id).await?,
        None => None,
    };
    let of_agent = agent.as_ref().map(|agent| &agent.model);
    let model = options.model.as_ref().or(of_agent).unwrap_or(&api.settings.default_model);
    let of_agent = agent.as_ref().and_then(|agent| agent.settings.deep_research_model.as_ref());
    let for_research = options.deep_research_model.as_ref().or(of_agent);
    for skill in built_in {
        // Research is done with the model for it, or with the run's where that one cannot.
        let models = for_research.filter(|_| skill == BuiltIn::DeepResearch).into_iter().chain([model]);
        let mut whys = models.map(|model| why_unavailable(skill, model));
        if let Some(why) = whys.try_fold(String::new(), |_, why| why) {
            let message = format!("The skill {skill} cannot be used: {why}", skill = skill.as_str());
            return Err(Error::bad_request(message).with_code("skill_unavailable"));
        }
    }
    Ok(())
}
