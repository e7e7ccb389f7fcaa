//! Calls that may not simply be made: judged when a reply comes, asked about with it, acted upon when it is decided.
//!
//! The requests are committed together with the reply that holds their calls. So whoever resumes a run knows of every open
//! call whether it was free to begin (no request: it may have had an effect) or had not begun (a request that is not
//! taken: it is made, or answered, now). A call begins only after a commit says so.

use claude::ToolUse;
use domain::{
    PermissionRequestId,
    agent::Agent,
    event::{AskedCall, Event},
    permission::{self, Access, Decider, Decision, PermissionSet, Request, Verdict},
};
use serde_json::{Value, value::RawValue};
use store::permissions::{NewRequest, Parking, UNANSWERED};

use crate::{
    computer::Computer,
    conversation,
    drive::Driver,
    error::End,
    research,
    stop::Stop,
    tools::{self, image},
};

/// Where agents and messages carry their sets among what is stored for them.
const PERMISSION_SET: &str = "permissionSet";

/// The calls of a reply, by what is to happen with them.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub free: Vec<ToolUse>,
    pub asked: Vec<NewRequest>,
    /// With what the model reads instead of a result.
    pub denied: Vec<(ToolUse, String)>,
}

/// A call that was allowed.
#[derive(Debug)]
pub(crate) struct Approved {
    pub call_id: String,
    /// What the model is told beside the result.
    pub note: Option<String>,
}

impl Judged {
    /// Makes the events that tell of what is asked.
    pub(crate) fn events(&self) -> impl Iterator<Item = Event> {
        self.asked.iter().map(|request| Event::PermissionAsked {
            request: AskedCall {
                request_id: request.id.clone(),
                call_id: request.call_id.clone(),
                tool: request.tool.clone(),
                input: request.input.clone(),
                rule: request.rule.clone(),
                ttl_ms: u64::try_from(request.ttl.as_millis()).unwrap_or(u64::MAX),
            },
        })
    }
}

impl Driver<'_> {
    /// Reads what binds the run's calls: what its agent carries and what its message carries, or what binds its caller.
    pub(crate) fn read_permissions(&mut self, agent: Option<&Agent>) {
        let of_agent = agent.and_then(|agent| agent.settings.stored.get(PERMISSION_SET));
        let of_message = self.run.options.stored.get(PERMISSION_SET);
        let of_caller = self.run.options.subagent.iter().flat_map(|task| &task.permissions);
        self.permission_sets = of_caller.chain(of_agent).chain(of_message).cloned().collect();
        self.permissions = self.permission_sets.iter().map(read).collect();
    }

    /// Judges the calls of a reply.
    pub(crate) fn judge(&self, calls: &[ToolUse]) -> Judged {
        let mut judged = Judged::default();
        for call in calls {
            // What is no JSON is not made either, and the model is told so where calls are made.
            let Ok(input) = &call.input else {
                judged.free.push(call.clone());
                continue;
            };
            let Verdict { access, rule } = self.verdict(&call.name, input);
            let rule = rule.unwrap_or_default();
            match access {
                Access::Allow => judged.free.push(call.clone()),
                Access::Deny => judged.denied.push((call.clone(), denied_text(&call.name, &rule))),
                Access::Ask => judged.asked.push(NewRequest {
                    id: PermissionRequestId::generate(),
                    call_id: call.id.clone(),
                    tool: call.name.clone(),
                    input: input.get().to_owned(),
                    rule,
                    unanswered: conversation::answer(&call.id, UNANSWERED, true),
                    ttl: self.parts.options.permission_expiry,
                }),
            }
        }
        judged
    }

    fn verdict(&self, tool: &str, input: &RawValue) -> Verdict {
        if self.permissions.is_empty() {
            return Verdict { access: Access::Allow, rule: None };
        }
        // A tool refuses what it cannot read; for rules it is something that fits nothing.
        let input: Value = serde_json::from_str(input.get()).unwrap_or(Value::Null);
        let verdict = permission::judge(&self.permissions, tool, &input);
        // A picture that is to be changed is read, and leaves for whoever changes it.
        let source = input.get("source_path").filter(|source| tool == image::NAME && !source.is_null());
        let of_source =
            source.map(|path| permission::judge(&self.permissions, "Read", &serde_json::json!({"file_path": path})));
        // A report is written.
        let of_source = of_source.or_else(|| {
            (tool == tools::research::NAME)
                .then(|| permission::judge(&self.permissions, "Write", &research::written_example()))
        });
        let verdict = of_source.filter(|of_source| of_source.access > verdict.access).unwrap_or(verdict);
        self.changed_tools.narrow(tool, verdict)
    }

    /// Answers what an earlier attempt left open. What remains in `self.open` is what this run has asked about and not
    /// acted upon.
    pub(crate) async fn answer_gaps(
        &mut self,
        calls: Vec<ToolUse>,
        conversation: &mut claude::Conversation,
        are_own: bool,
    ) -> Result<(), End> {
        let requests = self.requests_of(&calls).await?;
        let request_of = |call: &ToolUse| requests.iter().find(|request| request.call_id == call.id);
        let may_resume = are_own
            && calls.iter().any(|call| tools::is_of_agents(&call.name))
            && self.parts.store.find_stop_reason(&self.run.id).await?.as_deref() == Some("tool_use");
        let (mut interrupted, mut not_made) = (Vec::new(), Vec::new());
        for call in calls {
            match request_of(&call) {
                // An agent goes on, and one that was not called yet is called now.
                request
                    if may_resume
                        && tools::is_of_agents(&call.name)
                        && request.is_none_or(|request| request.is_taken) =>
                {
                    self.resumed.push(call.clone());
                    self.open.push(call);
                }
                Some(request) if request.is_taken => interrupted.push(call),
                Some(request) if request.run_id == self.run.id => self.open.push(call),
                Some(_) => not_made.push(call),
                None => interrupted.push(call),
            }
        }
        if !interrupted.is_empty() {
            self.steps.note_interrupted();
        }
        let text = "This call was interrupted: the server was stopped while it ran. Whether it had an effect is unknown, \
                    and it was not repeated. Look at the state before you go on.";
        self.answer_all(&interrupted, text, Some(conversation)).await?;
        self.answer_all(&not_made, UNANSWERED, Some(conversation)).await
    }

    /// Acts upon the decisions about the calls that are still open, once there are all. Until then the run waits, and
    /// nobody drives it.
    pub(crate) async fn settle_calls(
        &mut self,
        conversation: &mut claude::Conversation,
        computer: &Computer,
    ) -> Result<(), End> {
        if self.open.is_empty() {
            return Ok(());
        }
        debug_assert!(self.resumed.is_empty(), "agents are gone on with first");
        let requests = loop {
            let requests = self.requests_of(&self.open).await?;
            if requests.iter().all(|request| request.decided.is_some()) {
                break requests;
            }
            match self.parts.store.park_waiting(self.lease).await? {
                Parking::Parked => return Err(Stop::Waiting.into()),
                Parking::Decided => {}
                Parking::CancelRequested => return Err(self.signal.stopped().await.into()),
            }
        };
        let mut calls = Vec::new();
        for call in self.open.clone() {
            let Some(request) = requests.iter().find(|request| request.call_id == call.id) else {
                return Err(End::failed("internal_error", "A call was neither made nor asked about."));
            };
            let decided = match self.decided(call, request) {
                Ok(call) => match self.approve_changed(&call, request).await? {
                    None => Ok(call),
                    Some(text) => Err((call, text)),
                },
                refused => refused,
            };
            match decided {
                Ok(call) => calls.push(call),
                Err((call, text)) => {
                    self.answer_all(std::slice::from_ref(&call), &text, Some(conversation)).await?;
                    self.open.retain(|open| open.id != call.id);
                }
            }
        }
        self.call_tools(calls, conversation, computer).await
    }

    /// Gives the call as it is to be made, or what the model reads instead of its result.
    fn decided(&mut self, call: ToolUse, request: &Request) -> Result<ToolUse, (ToolUse, String)> {
        let Some(decided) = &request.decided else { return Err((call, UNANSWERED.to_owned())) };
        if decided.decision == Decision::Deny {
            let text = match (decided.by, &decided.reason) {
                (Decider::User, Some(reason)) => {
                    format!("The user did not allow this call, and it was not made. Their reason: {reason}")
                }
                (Decider::User, None) => "The user did not allow this call, and it was not made.".to_owned(),
                (Decider::Expiry, _) => "Nobody allowed this call in time, and it was not made.".to_owned(),
                (Decider::Cancel, _) => UNANSWERED.to_owned(),
            };
            return Err((call, text));
        }
        let mut made = call;
        let mut note = None;
        if let Some(updated) = &decided.updated_input {
            match RawValue::from_string(updated.clone()) {
                Ok(input) => made.input = Ok(input),
                Err(_) => return Err((made, "The changed input of this call cannot be read. It was not made.".into())),
            }
            note = Some(format!(
                "The user changed the input of this call before allowing it. It was made with: {updated}"
            ));
        }
        // Nobody can allow what is denied by now, least of all by changing the input.
        if let Ok(input) = &made.input
            && let Verdict { access: Access::Deny, rule } = self.verdict(&made.name, input)
        {
            let text = denied_text(&made.name, &rule.unwrap_or_default());
            return Err((made, text));
        }
        self.approved.push(Approved { call_id: made.id.clone(), note });
        Ok(made)
    }

    async fn requests_of(&self, calls: &[ToolUse]) -> Result<Vec<Request>, End> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = calls.iter().map(|call| call.id.as_str()).collect();
        Ok(self.parts.store.list_requests_of(&self.run.thread_id, &ids).await?)
    }
}

fn read(set: &Value) -> PermissionSet {
    PermissionSet::parse(set).unwrap_or_else(|err| {
        tracing::warn!(
            error = &err as &dyn std::error::Error,
            "a permission set cannot be read; all calls are asked about"
        );
        PermissionSet::ask_always()
    })
}

fn denied_text(tool: &str, rule: &str) -> String {
    let hint = if tool == "Grep" { " Search in directories that the rule is not about." } else { "" };
    format!("This call was not made: {rule} denies it.{hint}")
}
