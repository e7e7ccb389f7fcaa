//! Driving a run: load what the store holds, do the next step, commit, repeat.
//!
//! Starting a run and resuming it are this same code. What a crash may leave behind is visible in the transcript: calls
//! without a result (answered as interrupted, never repeated), or a last reply without the run's end (finished now).

use std::sync::Arc;

use claude::{StopReason, ToolUse};
use domain::{
    RunId,
    agent::Agent,
    environment::Environment,
    event::Event,
    permission::PermissionSet,
    run::{Outcome, Run, RunKind, RunOptions, Spent},
};
use store::{
    Store,
    leases::{Claimed, Lease},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Options,
    agents::{self, Agents, Tree, Wait},
    answer::{self, Expectation, Verdict},
    attachments,
    bounds::{self, Bounds},
    compaction::Window,
    computer::{Computer, Reach},
    conversation::{self, ASSISTANT, Loaded, SYSTEM, USER},
    error::End,
    mcp::ChangedTools,
    permissions::{Approved, Judged},
    prompt,
    server_tools::ServerCalls,
    setup, spans,
    steering::Reason,
    steps::Steps,
    stop::{Stop, StopSignal},
    tools::{self, redact::Redactor},
};

/// What all runs of a process share.
pub(crate) struct Parts {
    pub store: Store,
    pub sandboxes: sandbox::Sandboxes,
    pub ledger: ledger::Ledger,
    pub claude: claude::Client,
    pub catalogue: Arc<claude::Catalogue>,
    pub web: tools::web::Client,
    pub options: Options,
}

/// Replies cut off at the output limit that are asked to go on, and empty ones that are asked again, in a row.
const MAX_NUDGES: u32 = 3;

/// Claims of a run without a reply in between: a run that gets this far takes its workers down with it.
const MAX_FRUITLESS_ATTEMPTS: i32 = 10;

/// Drives a claimed run to its end, which it gives, or until it shall stop.
///
/// `tree` is that of the run which has called this one.
pub(crate) async fn drive(
    parts: &Arc<Parts>,
    claimed: &mut Claimed,
    signal: &StopSignal,
    soft: &CancellationToken,
    tree: Option<Arc<Tree>>,
) -> Result<Outcome, End> {
    let spent = claimed.run.spent;
    let last_sequence = claimed.last_sequence;
    let mut driver = Driver {
        parts,
        signal,
        soft,
        lease: &mut claimed.lease,
        run: &claimed.run,
        spent,
        last_sequence,
        bounds: Bounds::new(&claimed.run, tree),
        opening: Vec::new(),
        window: Window::new(None),
        open: Vec::new(),
        resumed: Vec::new(),
        agents: None,
        redactor: Arc::default(),
        permissions: Vec::new(),
        permission_sets: Vec::new(),
        approved: Vec::new(),
        changed_tools: ChangedTools::default(),
        searches_by_backend: false,
        server_calls: ServerCalls::default(),
        steps: Steps::new(parts.ledger.clone(), &claimed.run),
    };
    let advanced = driver.advance().await;
    driver.close_agents(&advanced).await;
    let outcome = match advanced {
        Ok(outcome) => outcome,
        Err(End::Stop(Stop::Cancelled)) => {
            driver.wind_up("The user stopped the run").await?;
            Outcome::Cancelled
        }
        Err(End::Stop(Stop::Interrupted)) => {
            driver.wind_up("The user stopped the run to send another message").await?;
            Outcome::Interrupted
        }
        Err(End::Stop(Stop::TimedOut)) => {
            driver.wind_up("The run was stopped at its time limit").await?;
            let (code, message) = driver.timed_out();
            Outcome::Failed { code: code.into(), message }
        }
        Err(End::Failed { code, message, .. }) if bounds::is_limit(code) => {
            driver.wind_up("The run was stopped at a limit").await?;
            Outcome::Failed { code: code.into(), message }
        }
        Err(End::Failed { code, message, source }) => {
            match source {
                Some(source) => {
                    tracing::warn!(code, error = &*source as &dyn std::error::Error, "run failed: {message}")
                }
                None => tracing::warn!(code, "run failed: {message}"),
            }
            driver.keep_opening("The run failed before you replied.").await?;
            Outcome::Failed { code: code.into(), message }
        }
        Err(end @ (End::Stop(_) | End::Store(_))) => return Err(end),
    };
    driver.close_steps().await?;
    spans::end_run(&outcome);
    driver.finish(&outcome).await?;
    Ok(outcome)
}

/// A run being driven.
pub(crate) struct Driver<'a> {
    pub parts: &'a Arc<Parts>,
    pub signal: &'a StopSignal,
    pub soft: &'a CancellationToken,
    pub lease: &'a mut Lease,
    pub run: &'a Run,
    pub spent: Spent,
    pub bounds: Bounds,
    /// The newest event committed, as deltas name it.
    pub last_sequence: i64,
    /// The run's first entries, until they are committed with the first reply.
    pub opening: Vec<(&'static str, String)>,
    pub window: Window,
    /// Calls of the last reply that have no result yet.
    pub open: Vec<ToolUse>,
    /// Those of them that an earlier attempt has handed to agents.
    pub resumed: Vec<ToolUse>,
    pub agents: Option<Arc<Agents>>,
    /// Knows what nobody may see.
    pub redactor: Arc<Redactor>,
    /// What binds the run's calls.
    pub permissions: Vec<PermissionSet>,
    /// The same as clients wrote it, for the agents that the run calls.
    pub permission_sets: Vec<serde_json::Value>,
    /// Calls that somebody has allowed.
    pub approved: Vec<Approved>,
    /// Tools of MCP servers that are not what they were when they were allowed.
    pub changed_tools: ChangedTools,
    /// The model is offered its back end's own search.
    pub searches_by_backend: bool,
    /// Calls that the back end makes itself.
    pub server_calls: ServerCalls,
    pub steps: Steps,
}

impl Driver<'_> {
    async fn advance(&mut self) -> Result<Outcome, End> {
        if let Some(stop) = self.signal.reason() {
            return Err(stop.into());
        }
        if self.run.fruitless_attempts > MAX_FRUITLESS_ATTEMPTS {
            return Err(End::failed(
                "too_many_attempts",
                "The run was taken up again and again without getting anywhere.",
            ));
        }
        let (store, run) = (&self.parts.store, self.run);
        let may_call = self.parts.options.agents.let_call(run);
        let (agent, environment, secrets, entries, mut messages, usage, stored) = futures::try_join!(
            store.find_agent_of_run(run),
            store.find_environment(&run.project_id, &run.environment_id),
            async {
                let mut secrets = store.open_secrets(&run.environment_id).await?;
                // Of one name the message's own wins.
                secrets.extend(store.open_run_secrets(run.root()).await?);
                Ok(secrets)
            },
            store.load_branch(&run.thread_id, self.branch()),
            store.list_run_messages(&run.thread_id, &run.id),
            store.find_branch_usage(&run.thread_id, self.branch()),
            async {
                match may_call {
                    true => Ok(store.list_agents(&run.project_id, store::Page { limit: 100, offset: 0 }).await?.items),
                    false => Ok(Vec::new()),
                }
            },
        )?;
        messages.extend(run.options.subagent.as_ref().map(|task| agents::message(run, task)));
        let mut environment = environment
            .ok_or_else(|| End::failed("environment_deleted", "The environment of this thread was deleted."))?;
        if agent.is_none() && run.agent_id.is_some() {
            let message = "The agent of this thread was deleted. Set another agentId on the thread to go on.";
            return Err(End::failed("agent_deleted", message));
        }
        spans::name_agent(agent.as_ref());
        let skills = self.find_skills(agent.as_ref()).await?;
        let workspace = self
            .parts
            .sandboxes
            .workspace(&environment.id)
            .map_err(End::caused("workspace_unavailable", "The files of the environment cannot be reached."))?;
        self.read_permissions(agent.as_ref());
        let skill_names: Vec<_> = skills.names().collect();
        let engine = self.choose_search(&skills, agent.as_ref(), &environment).await?;
        let images = self.choose_images(&skills, &environment).await?;
        let research_model = self.choose_research(&skills, agent.as_ref(), &environment).await?;
        // An agent of a research session has no use for a computer, and none for what lies on it.
        let is_at_computer = run.options.research().is_none();
        let library = if is_at_computer { self.library(skills.custom, &workspace).await } else { None };
        let reach = Reach { library, engine, images, has_research: research_model.is_some() };
        let mut computer = Computer::new(self.parts, run, &environment, workspace, secrets, reach).await?;
        computer.servers().recall(store, &run.environment_id).await?;
        self.redactor = computer.redactor();
        self.steps.hide(computer.redactor());
        self.window = Window::new(usage.as_ref());
        self.read_bounds(agent.as_ref()).await?;
        self.prepare_agents(agent.as_ref(), stored, skill_names, research_model);
        if run.options.kind == RunKind::Compact {
            return self.compact_only(agent.as_ref(), &entries, &computer).await;
        }
        let has_image = self.has_image(&environment).await;
        if has_image && is_at_computer {
            // From here on the container starts while the model thinks.
            self.start(&mut computer).await?;
        }

        let mut loaded = conversation::load(&entries, &run.id)?;
        let scripts_done = setup::count_results(&entries, &run.id);
        drop(entries);
        let mut expectation = Expectation::new(&run.options)?;
        if run.attempt > 1
            && let Some(agents) = &self.agents
        {
            agents.recall().await?;
        }
        if let Some(outcome) = self.close_gaps(&mut loaded, &mut expectation).await? {
            return Ok(outcome);
        }
        let is_resumed = loaded.has_begun;
        if !loaded.has_begun {
            self.begin(&mut loaded, agent.as_ref(), &environment, &computer, &messages).await?;
        }
        let system = loaded.system.take().expect("a run that has begun has a system prompt");
        let mut request = self.request(agent.as_ref(), system, &computer);
        if let Some(fallback) = &run.fallback_model {
            // The run's own model could not answer an earlier attempt, and was given up for this run.
            request = self.with_model(&request, fallback);
        }
        let (time_left, signal) = (self.time_left(), self.signal);
        let clock = async move {
            if let Some(time_left) = time_left {
                tokio::time::sleep(time_left).await;
                signal.stop(Stop::TimedOut);
            }
            // What is under way sees the signal and comes to its end.
            futures::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            outcome = async {
                if !has_image && is_at_computer {
                    self.prepare_image(&mut environment).await?;
                    computer.use_image(environment.build.image.clone());
                    self.start(&mut computer).await?;
                }
                if self.run.turns == 0 && is_at_computer {
                    self.prepare_repository(&environment, &computer).await?;
                    self.set_up(&mut loaded.conversation, &computer, scripts_done, is_resumed).await?;
                }
                self.turns(request, &mut loaded, &computer, &mut expectation).await
            } => outcome,
            never = clock => match never {},
        }
    }

    /// Gives the run's own branch of the transcript; `None` for the thread's.
    pub(crate) fn branch(&self) -> Option<&RunId> {
        self.run.place.as_ref().map(|_| &self.run.id)
    }

    /// Prepares what the run needs to call agents.
    fn prepare_agents(
        &mut self,
        agent: Option<&Agent>,
        stored: Vec<Agent>,
        skills: Vec<String>,
        research_model: Option<String>,
    ) {
        let options = &self.run.options;
        let of_agent = agent.map(|agent| &agent.settings);
        let basis = RunOptions {
            model: Some(self.run.fallback_model.clone().unwrap_or_else(|| self.model(agent))),
            instructions: options.instructions.clone().or(of_agent.and_then(|agent| agent.instructions.clone())),
            reasoning_effort: options.reasoning_effort.or(of_agent.and_then(|agent| agent.reasoning_effort)),
            internet_access: options.internet_access,
            environment_variables: options.environment_variables.clone(),
            key_id: options.key_id.clone(),
            enabled_skills: Some(skills),
            stored: options
                .stored
                .get("mcpServers")
                .map(|own| ("mcpServers".to_owned(), own.clone()))
                .into_iter()
                .collect(),
            ..RunOptions::default()
        };
        let setup = agents::Setup {
            tree: self.bounds.tree.clone(),
            signal: self.signal.clone(),
            soft: self.soft.clone(),
            stored: stored.into_iter().filter(|agent| agent.is_active).collect(),
            basis,
            research_model,
            permissions: self.permission_sets.clone(),
        };
        self.agents = Some(Agents::new(self.parts, self.run, self.lease.renewal(), setup));
    }

    /// Ends the agents that are under way, as the run itself goes on or ends.
    async fn close_agents(&mut self, advanced: &Result<Outcome, End>) {
        let Some(agents) = &self.agents else { return };
        let reason = match advanced {
            Ok(_) | Err(End::Failed { .. }) => Some(Stop::Cancelled),
            // They come to their next turn, as this run has.
            Err(End::Stop(Stop::ShuttingDown | Stop::Paused | Stop::Waiting)) => None,
            Err(End::Stop(stop)) => Some(*stop),
            Err(End::Store(_)) => Some(Stop::ShuttingDown),
        };
        agents.close(reason).await;
    }

    /// Begins to start the container.
    async fn start(&mut self, computer: &mut Computer) -> Result<(), End> {
        if !computer.is_running() {
            self.record(Event::ComputerStarting).await?;
        }
        computer.warm_up();
        Ok(())
    }

    /// Deals with what an earlier attempt, or an earlier run of the thread, left unfinished.
    pub(crate) async fn close_gaps(
        &mut self,
        loaded: &mut Loaded,
        expectation: &mut Expectation,
    ) -> Result<Option<Outcome>, End> {
        let calls = std::mem::take(&mut loaded.open_calls);
        if !calls.is_empty() {
            self.answer_gaps(calls, &mut loaded.conversation, loaded.has_begun).await?;
        }
        if let Some(content) = loaded.last_reply.take() {
            let stop_reason = self.parts.store.find_stop_reason(&self.run.id).await?;
            if stop_reason.as_deref() == Some("end_turn") || stop_reason.as_deref() == Some("stop_sequence") {
                match expectation.check(content)? {
                    // It was waiting for agents in the background.
                    Verdict::Taken(_) if self.tell_of_agents(&mut loaded.conversation, Wait::UntilOneEnds).await? => {}
                    Verdict::Taken(content) => return Ok(Some(Outcome::Completed { content })),
                    Verdict::Wrong(why) => self.nudge(&mut loaded.conversation, &why).await?,
                }
                return Ok(None);
            }
            if stop_reason.as_deref() != Some("pause_turn") {
                self.nudge(&mut loaded.conversation, "Go on where you stopped.").await?;
            }
        }
        Ok(None)
    }

    /// Makes the run's first entries. They are committed together with the first reply, so that the model is asked
    /// without waiting for another commit; after a crash before that they are simply made again.
    async fn begin(
        &mut self,
        loaded: &mut Loaded,
        agent: Option<&Agent>,
        environment: &Environment,
        computer: &Computer,
        messages: &[domain::message::Message],
    ) -> Result<(), End> {
        let listing = self.agents.as_ref().and_then(|agents| agents.listing());
        let parts = prompt::parts(agent, environment, &self.run.options, computer, listing).await;
        let changed = loaded.told.as_ref().is_some_and(|told| *told != parts);
        if loaded.told.is_none() || changed {
            self.opening.push((SYSTEM, serde_json::to_string(&parts).expect("strings serialise")));
        }
        let reminder = prompt::reminder(self.run, changed.then_some(parts.as_slice()));
        loaded.system.get_or_insert(parts);
        let options = &self.run.options;
        let attached = attachments::show(computer.workspace(), &options.attachments).await;
        let instruction = options.response_schema.as_ref().map(answer::instruction);
        let content = options.execution_content.as_deref();
        let opening = conversation::opening(&reminder, messages, content, &attached, instruction.as_deref());
        for (role, blocks) in &opening {
            conversation::push(&mut loaded.conversation, role, blocks)?;
        }
        self.opening.extend(opening);
        Ok(())
    }

    /// Asks and calls until the model stops.
    async fn turns(
        &mut self,
        request: claude::Request,
        loaded: &mut Loaded,
        computer: &Computer,
        expectation: &mut Expectation,
    ) -> Result<Outcome, End> {
        let mut request = request;
        let mut nudges = 0;
        // A reply that the back end paused is sent back as it is, with nothing said after it; one in which its own call is
        // still open, with nothing but results.
        let mut is_paused = false;
        self.prepare_servers(computer).await?;
        let resumed = std::mem::take(&mut self.resumed);
        self.call_tools(resumed, &mut loaded.conversation, computer).await?;
        // What was asked about in the last reply is acted upon before the model is asked again.
        self.settle_calls(&mut loaded.conversation, computer).await?;
        loop {
            if self.soft.is_cancelled() {
                return Err(Stop::ShuttingDown.into());
            }
            if self.lease.is_pause_requested() {
                return Err(Stop::Paused.into());
            }
            self.check_bounds().await?;
            if !is_paused {
                self.take_notes(&mut loaded.conversation, Reason::Any).await?;
                self.tell_of_agents(&mut loaded.conversation, Wait::No).await?;
            }
            self.compact_if_full(&mut request, loaded).await?;
            // The summary was a model call too, and may have been the last that the run could afford.
            self.check_bounds().await?;
            self.offer_tools(&mut request, loaded, computer).await?;
            let asked_at = Instant::now();
            let (response, blocks) = match self.ask(&mut request, &loaded.conversation, computer).await {
                Err(end) if end.is_window_exceeded() => {
                    self.make_room(&mut request, loaded, end).await?;
                    continue;
                }
                reply => reply?,
            };
            if response.stop_reason == StopReason::Refusal {
                return self.refused(&request, &response, asked_at).await;
            }
            self.count_turn();
            let judged = match response.stop_reason {
                StopReason::ToolUse => self.judge(&response.tool_uses),
                // Its calls are not made.
                _ => Judged::default(),
            };
            self.commit_reply(&request, &response, blocks, &judged, asked_at).await?;
            is_paused = response.stop_reason == StopReason::PauseTurn || self.server_calls.has_open();
            if !response.content.get().starts_with("[]") {
                conversation::push(&mut loaded.conversation, ASSISTANT, response.content.get())?;
                loaded.has_replies = true;
            }
            self.open = response.tool_uses;
            for (call, text) in &judged.denied {
                conversation::push(&mut loaded.conversation, USER, &conversation::answer(&call.id, text, true))?;
                self.open.retain(|open| open.id != call.id);
            }
            match response.stop_reason {
                StopReason::ToolUse => {
                    nudges = 0;
                    self.call_tools(judged.free, &mut loaded.conversation, computer).await?;
                    self.settle_calls(&mut loaded.conversation, computer).await?;
                }
                StopReason::PauseTurn => {}
                StopReason::EndTurn if response.text.trim().is_empty() && nudges < MAX_NUDGES => {
                    nudges += 1;
                    self.nudge(&mut loaded.conversation, "Go on, or say what came out.").await?;
                }
                StopReason::EndTurn | StopReason::StopSequence => {
                    if self.take_notes(&mut loaded.conversation, Reason::ToFollow).await?
                        || self.tell_of_agents(&mut loaded.conversation, Wait::UntilOneEnds).await?
                    {
                        continue;
                    }
                    match expectation.check(response.text)? {
                        Verdict::Taken(content) => return Ok(Outcome::Completed { content }),
                        Verdict::Wrong(why) => self.nudge(&mut loaded.conversation, &why).await?,
                    }
                }
                StopReason::MaxTokens if nudges < MAX_NUDGES => {
                    nudges += 1;
                    // A call in it may have been cut in the middle of its input.
                    let calls = std::mem::take(&mut self.open);
                    let text = "This call was not made: your reply was cut off at the output limit, so its input may \
                                be incomplete. Make it again, in smaller parts.";
                    self.answer_all(&calls, text, Some(&mut loaded.conversation)).await?;
                    request.max_tokens = self.raised(&request);
                    if calls.is_empty() {
                        self.nudge(
                            &mut loaded.conversation,
                            "Your reply was cut off at the output limit. Go on exactly where you stopped.",
                        )
                        .await?;
                    }
                }
                StopReason::MaxTokens => {
                    return Err(End::failed(
                        "reply_too_long",
                        "The model's reply was cut off at the output limit several times in a row.",
                    ));
                }
                StopReason::ContextWindowExceeded => {
                    let calls = std::mem::take(&mut self.open);
                    let text = "This call was not made: your reply was cut off at the end of your context window, so its \
                                input may be incomplete. Make it again.";
                    self.answer_all(&calls, text, Some(&mut loaded.conversation)).await?;
                    let message = "The conversation no longer fits into the model's context window.";
                    self.make_room(&mut request, loaded, End::failed("context_window_exceeded", message)).await?;
                }
                StopReason::Refusal => unreachable!("handled above"),
                StopReason::Compaction | StopReason::Other(_) => {
                    let reason = response.stop_reason.as_str();
                    return Err(End::failed(
                        "unknown_stop_reason",
                        format!("The model stopped for a reason that this server does not know: {reason}."),
                    ));
                }
            }
        }
    }
}
