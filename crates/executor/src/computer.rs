//! The computer of a run: its tools, and the container that starts while the model thinks.

use domain::{environment::Environment, mcp::SEALED_KEY, run::Run};
use sandbox::{Network, Sandbox, Workspace};
use secrecy::{ExposeSecret, SecretString};
use tokio::task::AbortHandle;

use crate::{
    drive::Parts,
    error::End,
    mcp::{Servers, SignIns},
    research,
    tools::{
        self, Call, Context, Outcome, Scope, ToolError, Tools, image::Images, redact::Redactor, skill::Library,
        web::search::Search,
    },
};

/// What a run has beyond its computer, by its skills.
#[derive(Default)]
pub(crate) struct Reach {
    pub library: Option<Library>,
    pub engine: Option<Search>,
    pub images: Option<Images>,
    /// It may have questions researched.
    pub has_research: bool,
}

/// What a run works with. Dropping it ends nothing that runs on the computer.
pub(crate) struct Computer {
    tools: Tools,
    context: std::sync::Arc<Context>,
    servers: Servers,
    workspace: Workspace,
    is_running: bool,
    warming: Option<AbortHandle>,
}

impl Computer {
    /// Prepares the computer of an environment for a run. Nothing is started yet.
    pub(crate) async fn new(
        parts: &Parts,
        run: &Run,
        environment: &Environment,
        workspace: Workspace,
        secrets: Vec<(String, SecretString)>,
        reach: Reach,
    ) -> Result<Self, End> {
        let mut spec = parts.sandboxes.spec_of(environment);
        let mut has_internet = environment.settings.internet_access;
        // A message may take the network away for its run, but not give one that the environment forbids.
        if has_internet && run.options.internet_access == Some(false) {
            has_internet = false;
            spec.network = Network::Withheld;
        }
        let is_running = parts.sandboxes.is_open(&spec);
        let (sealed, secrets): (Vec<_>, Vec<_>) = secrets.into_iter().partition(|(key, _)| key == SEALED_KEY);
        let of_message = servers_of_message(run, sealed.first().map(|(_, text)| text));
        let values: Vec<SecretString> = secrets.iter().map(|(_, value)| value.clone()).collect();
        let variables = variables(run, environment, secrets);
        let scope = research::scope(&run.options);
        // What has nothing but the web has no servers either.
        let of_environment = if scope == Scope::All { parts.store.open_mcp_servers(environment)? } else { Vec::new() };
        let servers = Servers::new(
            &of_environment,
            &of_message,
            has_internet,
            |name| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()),
            &parts.options.mcp,
            &SignIns::of_runs(parts.store.clone(), parts.web.clone(), &parts.options.mcp),
            &run.environment_id,
        );
        let Reach { library, engine, images, has_research } = reach;
        let tools = Tools::new(has_internet).with_skills(library.is_some()).with_search(engine.is_some());
        let tools = tools.with_images(images.as_ref().map(Images::ability));
        let tools = tools.with_agents(parts.options.agents.let_call(run));
        let tools = tools.with_research(has_research).within(scope);
        let context = Context::new(parts.sandboxes.clone(), spec, run.id.as_str(), variables, parts.web.clone());
        let context = context.hiding(values.iter().map(ExposeSecret::expose_secret).chain(servers.secrets()));
        let context = context.with_skills(library).with_search(engine).with_images(images);
        Ok(Self { tools, context: context.into(), servers, workspace, is_running, warming: None })
    }

    /// Tells whether the container ran when the run began.
    pub(crate) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Changes the image that was built for the environment. Before anything works on the computer.
    pub(crate) fn use_image(&mut self, image: Option<String>) {
        let context = std::sync::Arc::get_mut(&mut self.context).expect("nothing works before there is an image");
        self.is_running = context.use_image(image);
    }

    /// Begins to start the container, without waiting for it.
    pub(crate) fn warm_up(&mut self) {
        let context = self.context.clone();
        let warming = tokio::spawn(async move {
            // A failure is told by the first call that needs the computer; a run without calls does not need to know.
            if let Err(err) = context.sandbox().await {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot start the environment's container");
            }
        });
        self.warming = Some(warming.abort_handle());
    }

    /// Gives the container, started if it does not run.
    pub(crate) async fn sandbox(&self) -> Result<Sandbox, sandbox::Error> {
        self.context.sandbox().await
    }

    /// Gives a variable of the run's commands.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.context.variable(name).map(str::to_owned)
    }

    /// Gives what knows the run's secrets.
    pub(crate) fn redactor(&self) -> std::sync::Arc<Redactor> {
        self.context.redactor()
    }

    pub(crate) fn has_internet(&self) -> bool {
        self.tools.has_internet()
    }

    /// Gives what the system prompt says of the run's skills.
    pub(crate) fn skill_listings(&self) -> Vec<String> {
        self.context.skill_listings()
    }

    pub(crate) fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Describes all tools to the model, sorted by name.
    pub(crate) fn definitions(&self) -> Vec<claude::Tool> {
        let mut definitions = self.tools.definitions();
        definitions.extend(self.servers.definitions());
        definitions
    }

    pub(crate) fn servers(&self) -> &Servers {
        &self.servers
    }

    pub(crate) fn context(&self) -> &std::sync::Arc<Context> {
        &self.context
    }

    /// The model is about to call a tool.
    pub(crate) fn expect(&self, name: &str) {
        self.servers.expect(name, &self.context);
    }

    pub(crate) fn is_parallel_safe(&self, name: &str) -> bool {
        self.tools.is_parallel_safe(name)
    }

    pub(crate) async fn call(&self, call: Call<'_>) -> Result<Outcome, ToolError> {
        if Servers::are_asked(call.name) {
            let result = self.servers.call(&self.context, call).await;
            return tools::clean(&self.context, result);
        }
        self.tools.call(&self.context, call).await
    }
}

impl Drop for Computer {
    fn drop(&mut self) {
        if let Some(warming) = &self.warming {
            warming.abort();
        }
    }
}

/// Gives the MCP servers that came with a message. They are sealed, as their tokens may be in them.
fn servers_of_message(run: &Run, sealed: Option<&SecretString>) -> Vec<serde_json::Value> {
    let sealed = sealed.and_then(|text| serde_json::from_str(text.expose_secret()).ok());
    let stored = || run.options.stored.get("mcpServers").and_then(serde_json::Value::as_array).cloned();
    sealed.or_else(stored).unwrap_or_default()
}

/// The variables of the run's commands; of one name, the narrower wins: message, secret, environment.
fn variables(run: &Run, environment: &Environment, secrets: Vec<(String, SecretString)>) -> Vec<(String, String)> {
    let mut all: std::collections::BTreeMap<String, String> = environment.settings.variables().collect();
    all.extend(secrets.into_iter().map(|(key, value)| (key, value.expose_secret().to_owned())));
    all.extend(run.options.environment_variables.clone());
    all.into_iter().collect()
}
