//! Agents that a run calls: each is a run of its own, driven by the same code as every other, beside the run that called it.
//!
//! It is not claimed by a worker of its own. A run that waited for a permit that only its own end sets free would never
//! end; and one process that drives the whole tree can count all of it against one budget. So the holder of the run's lease
//! takes the agents it has called (`store::subagents`), passes its stop signal on to them, and does not end before they
//! have. A crash is nothing special: whoever takes the run up finds the call without a result and the agent's run beside it,
//! and goes on with that, instead of telling the call as interrupted. No agent is run twice for one call.
//!
//! Where all that a run waits for are agents that wait for somebody's decision, it waits as they do, without a worker; the
//! decision wakes the whole chain.

mod background;
mod input;
mod research;
mod tree;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use claude::ToolUse;
use domain::{
    RunId,
    agent::Agent,
    event::Detail,
    run::{Outcome as RunOutcome, Run, RunOptions},
    subagent::Called,
};
use futures::future::BoxFuture;
use serde_json::Value;
use store::{
    leases::{Claimed, Renewal},
    subagents::{NewSubagent, Taken},
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

pub(crate) use self::background::Wait;
pub(crate) use self::input::{instructions, message};
pub(crate) use self::tree::Tree;
use crate::{
    drive::Parts,
    error::End,
    stop::{Stop, StopSignal},
    tools::{self, Outcome, ToolError},
    worker,
};

/// What became of a call of an agent.
pub(crate) enum Made {
    /// As of every other tool.
    Result(Result<Outcome, ToolError>),
    /// It has no result yet: the agent waits for somebody, or is not driven here any more.
    Left(End),
}

/// What a run has to call agents with.
pub(crate) struct Setup {
    pub tree: Arc<Tree>,
    pub signal: StopSignal,
    pub soft: CancellationToken,
    /// The stored agents of the project.
    pub stored: Vec<Agent>,
    /// What an agent that is made up for a call has of the run.
    pub basis: RunOptions,
    /// The model that does deep research for the run, if it may have any done.
    pub research_model: Option<String>,
    /// What binds the calls of the run.
    pub permissions: Vec<Value>,
}

/// The agents of one run, as far as it has called any.
pub(crate) struct Agents {
    parts: Arc<Parts>,
    run: Run,
    lease: Renewal,
    setup: Setup,
    /// How many may work at once. Of this run, not of the tree: an agent that has called others holds a slot meanwhile.
    slots: Semaphore,
    state: Mutex<State>,
    has_background: AtomicBool,
    /// One in the background has come to an end, or is not driven any more.
    changed: Notify,
    /// Nobody waits any more for what is not under way.
    closing: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    /// The runs that answer calls.
    called: BTreeMap<String, RunId>,
    /// Those that are driven here.
    driven: HashMap<RunId, StopSignal>,
    in_background: HashSet<RunId>,
    /// Why one in the background is not driven any more.
    left: Option<End>,
}

impl Agents {
    pub(crate) fn new(parts: &Arc<Parts>, run: &Run, lease: Renewal, setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            parts: parts.clone(),
            run: run.clone(),
            lease,
            setup,
            slots: Semaphore::new(parts.options.agents.max_parallel.max(1)),
            state: Mutex::default(),
            has_background: AtomicBool::new(false),
            changed: Notify::new(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Learns which agents an earlier attempt has called, and goes on with those in the background.
    pub(crate) async fn recall(self: &Arc<Self>) -> Result<(), End> {
        for agent in self.parts.store.list_subagents(&self.run.id).await? {
            let Some(place) = agent.place else { continue };
            self.state().called.insert(place.call_id, agent.id.clone());
            if place.is_background && !place.is_told {
                self.keep(agent.id);
            }
        }
        Ok(())
    }

    /// Tells whether the run may call agents.
    pub(crate) fn are_offered(&self) -> bool {
        self.parts.options.agents.let_call(&self.run)
    }

    /// Makes a call, or goes on with one that an earlier attempt has made.
    pub(crate) async fn call(self: &Arc<Self>, call: &ToolUse) -> Made {
        let (agents, call) = (self.clone(), call.clone());
        let work: BoxFuture<'static, _> = Box::pin(async move { agents.try_call(&call).await });
        self.made(work).await
    }

    /// Does the work of a call on a task of its own: it locks the run's row, and whoever waits for several calls writes that
    /// row in between.
    async fn made(&self, work: BoxFuture<'static, Result<Outcome, Unfinished>>) -> Made {
        match self.tasks.spawn(work.in_current_span()).await.unwrap_or_else(|err| Err(broken_off(&err))) {
            Ok(outcome) => Made::Result(Ok(outcome)),
            Err(Unfinished::ForModel(text)) => Made::Result(Err(ToolError::ForModel(text))),
            Err(Unfinished::Left(end)) => Made::Left(end),
        }
    }

    async fn try_call(self: &Arc<Self>, call: &ToolUse) -> Result<Outcome, Unfinished> {
        let json = call.input.as_ref().map_err(|text| {
            Unfinished::ForModel(format!(
                "The input of this call is not valid JSON and no agent was called. It was: {text}"
            ))
        })?;
        let input = tools::agent::parse(json)?;
        let is_background = input.run_in_background;
        let run = self.make(&call.id, is_background, || self.options(&input)).await?;
        if is_background {
            let text = format!(
                "The agent works in the background as {run}. You are told what it came to when it has ended. Do not wait \
                 for it with other calls: when there is nothing else to do, end your turn."
            );
            self.keep(run);
            return Ok(Outcome::text(text, None));
        }
        Ok(outcome_of(&self.finish(&run, &self.setup.tree).await?))
    }

    /// Makes the run that answers a call, unless there is one.
    async fn make(
        &self,
        call_id: &str,
        is_background: bool,
        options: impl FnOnce() -> Result<RunOptions, ToolError>,
    ) -> Result<RunId, Unfinished> {
        let known = self.state().called.get(call_id).cloned();
        if let Some(run) = known {
            return Ok(run);
        }
        let new = NewSubagent { call_id: call_id.to_owned(), options: options()?, is_background };
        let most = self.parts.options.agents.max_calls;
        if !self.setup.tree.count_call(most) {
            return Err(Unfinished::ForModel(format!(
                "No agent was called: the run has called {most}, which is all it may. Do the work yourself."
            )));
        }
        let run = self.patiently(|| self.parts.store.call_subagent(&self.lease, &self.run, &new)).await?;
        self.state().called.insert(call_id.to_owned(), run.clone());
        Ok(run)
    }

    /// Drives an agent to its end, as often as it takes. What it uses counts for `tree`.
    async fn finish(&self, run: &RunId, tree: &Arc<Tree>) -> Result<Run, Unfinished> {
        loop {
            let slot = tokio::select! {
                slot = self.setup.signal.or(self.slots.acquire()) => slot.map_err(End::from)?,
                () = self.closing.cancelled() => return Err(Unfinished::Left(Stop::ShuttingDown.into())),
            };
            let ttl = self.parts.options.lease;
            match self.patiently(|| self.parts.store.take_subagent(&self.lease, run, ttl)).await? {
                Taken::Over(run) => return Ok(*run),
                Taken::Waiting(_) => return Err(Unfinished::Left(Stop::Waiting.into())),
                Taken::Claimed(claimed) => match self.drive(*claimed, tree).await {
                    Ok(Ok(())) | Ok(Err(End::Stop(Stop::Waiting))) => {}
                    Ok(Err(end @ (End::Stop(_) | End::Store(_)))) => return Err(Unfinished::Left(end)),
                    Ok(Err(End::Failed { message, .. })) => {
                        return Err(Unfinished::ForModel(format!(
                            "The agent could not be brought to an end: {message}"
                        )));
                    }
                    Err(err) => return Err(broken_off(&err)),
                },
            }
            drop(slot);
            if let Some(stop) = self.setup.signal.reason() {
                return Err(Unfinished::Left(stop.into()));
            }
        }
    }

    /// Drives an agent, on a task of its own: whoever does not wait for it any more does not cut it off.
    fn drive(&self, claimed: Claimed, tree: &Arc<Tree>) -> JoinHandle<Result<(), End>> {
        let signal = StopSignal::default();
        self.state().driven.insert(claimed.run.id.clone(), signal.clone());
        if self.closing.is_cancelled() {
            signal.stop(Stop::ShuttingDown);
        }
        let (parts, tree) = (self.parts.clone(), tree.clone());
        let (above, soft) = (self.setup.signal.clone(), self.setup.soft.clone());
        let span = tracing::info_span!("agent", run_id = %claimed.run.id);
        // A run drives agents, which are runs: the type must end somewhere.
        let driving: BoxFuture<'static, Result<(), End>> = Box::pin(
            async move {
                let relay = async {
                    let stop = above.stopped().await;
                    signal.stop(stop);
                    futures::future::pending::<std::convert::Infallible>().await
                };
                tokio::select! {
                    end = worker::hold(parts, claimed, signal.clone(), soft, CancellationToken::new(), Some(tree)) => end,
                    never = relay => match never {},
                }
            }
            .instrument(span),
        );
        self.tasks.spawn(driving)
    }

    /// Stops one agent by the id that its call gave. `None` if there is none.
    pub(crate) async fn stop(&self, id: &str) -> Option<Result<Outcome, ToolError>> {
        let run = self.state().called.values().find(|run| run.as_str() == id).cloned()?;
        let (project, thread) = (&self.run.project_id, &self.run.thread_id);
        let text = match self.parts.store.cancel_subagent(project, thread, &run).await {
            Ok(_) => format!("The agent {run} is being stopped."),
            Err(store::Error::State(_)) => format!("The agent {run} had already ended."),
            Err(err) => {
                tracing::warn!(error = &err as &dyn std::error::Error, "cannot stop an agent");
                return Some(Err(ToolError::ForModel("The agent could not be stopped just now. Try again.".into())));
            }
        };
        Some(Ok(Outcome::text(text, None)))
    }

    /// Ends all that is under way: at once for a reason, else at its next turn. Returns when nothing of it is left.
    pub(crate) async fn close(&self, reason: Option<Stop>) {
        self.closing.cancel();
        if let Some(reason) = reason {
            self.state().driven.values().for_each(|signal| signal.stop(reason));
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Reads or writes rows. While the database is away it is tried again, as long as the lease may still be ours.
    pub(crate) async fn patiently<T, F>(&self, work: impl Fn() -> F) -> Result<T, End>
    where
        F: Future<Output = store::Result<T>>,
    {
        let began_at = Instant::now();
        loop {
            match work().await {
                Err(err) if err.is_unavailable() && began_at.elapsed() < self.parts.options.lease => {
                    tracing::warn!(
                        error = &err as &dyn std::error::Error,
                        "cannot reach an agent's rows, trying again"
                    );
                    tokio::time::sleep(self.parts.options.poll).await;
                }
                done => return Ok(done?),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says why a task came to no end of its own: it panicked, or the process is going.
fn broken_off(err: &tokio::task::JoinError) -> Unfinished {
    if err.is_cancelled() {
        return Unfinished::Left(Stop::ShuttingDown.into());
    }
    tracing::error!(error = err as &dyn std::error::Error, "driving an agent broke off");
    Unfinished::ForModel("The agent broke off by a fault of the server.".to_owned())
}

/// Why a call has no result.
enum Unfinished {
    ForModel(String),
    Left(End),
}

impl From<End> for Unfinished {
    fn from(end: End) -> Self {
        Self::Left(end)
    }
}

impl From<ToolError> for Unfinished {
    fn from(err: ToolError) -> Self {
        Self::ForModel(err.to_string())
    }
}

/// Gives what an agent that is over came to, as its caller reads it.
fn outcome_of(run: &Run) -> Outcome {
    let (text, is_error) = said(run);
    let called = Called {
        run_id: run.id.clone(),
        name: run.options.subagent.as_ref().map(|task| task.name.clone()).unwrap_or_default(),
        description: run.options.subagent.as_ref().map(|task| task.description.clone()).unwrap_or_default(),
        status: run.status.as_str().to_owned(),
        turns: run.turns,
        calls: run.calls,
        tokens: run.spent.total_tokens(),
        cost: run.spent.cost,
    };
    Outcome { is_error, ..Outcome::text(text, Some(Detail::Agent(Box::new(called)))) }
}

/// Gives an agent's last words, or why there are none, and whether it failed.
fn said(run: &Run) -> (String, bool) {
    match &run.outcome {
        Some(RunOutcome::Completed { content }) if content.trim().is_empty() => {
            ("The agent ended without saying anything.".to_owned(), false)
        }
        Some(RunOutcome::Completed { content }) => (content.clone(), false),
        Some(RunOutcome::Failed { message, .. }) => (format!("The agent did not finish its work: {message}"), true),
        Some(RunOutcome::Cancelled | RunOutcome::Interrupted) | None => {
            ("The agent was stopped before it had finished its work.".to_owned(), true)
        }
    }
}
