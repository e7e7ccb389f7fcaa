//! `/threads/{id}/permission-requests`: calls that wait for somebody to allow them.

use axum::{Json, extract::State};
use domain::{
    PermissionRequestId, ThreadId,
    permission::{Decider, Decision, Request},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::permissions::{Settled, Wish};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, auth::Caller, body::Body, path::Path, threads::find_thread, timestamp::Timestamp};

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 10_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_requests)).routes(routes!(decide))
}

/// A call that waits for somebody to allow it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PermissionRequest)]
pub(crate) struct RequestView {
    #[schema(example = "perm_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    request_id: String,
    thread_id: String,
    run_id: String,
    /// The item of the run's stream that the call is.
    call_id: String,
    /// The project's id: a key opens a project, not a person.
    user_id: String,
    #[schema(example = "Bash")]
    tool_name: String,
    /// The tool's input, as a string of JSON.
    #[schema(example = r#"{"command":"npm publish"}"#)]
    input: String,
    /// What the call may do now: always `ask_for_permission`.
    current_mode: &'static str,
    /// What it needs: always `full_access`.
    required_mode: &'static str,
    /// Why it waits.
    reason: Option<String>,
    /// The rule or level that asks.
    #[schema(example = "Bash(npm publish *)")]
    rule: String,
    created_at: Timestamp,
    /// From then on it is denied.
    expires_at: Timestamp,
}

impl From<Request> for RequestView {
    fn from(request: Request) -> Self {
        Self {
            request_id: request.id.into(),
            thread_id: request.thread_id.into(),
            run_id: request.run_id.into(),
            call_id: request.call_id,
            user_id: request.project_id.into(),
            tool_name: request.tool,
            input: request.input,
            current_mode: "ask_for_permission",
            required_mode: "full_access",
            reason: Some(reason(&request.rule)),
            rule: request.rule,
            created_at: request.created_at.into(),
            expires_at: request.expires_at.into(),
        }
    }
}

/// Says why a call waits.
pub(crate) fn reason(rule: &str) -> String {
    format!("The permission set asks first: {rule}")
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PermissionRequestList)]
pub(crate) struct RequestList {
    /// Always `list`.
    object: &'static str,
    data: Vec<RequestView>,
}

/// What is to be done with a call.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PermissionDecision, example = json!({"decision": "deny", "reason": "Not on a Friday"}))]
pub(crate) struct DecisionInput {
    /// `allow` or `deny`.
    #[schema(value_type = String)]
    decision: String,
    /// The model reads it where the call is denied.
    reason: Option<String>,
    /// The input to make the call with instead of the model's; only with `allow`.
    #[schema(value_type = Option<Object>)]
    updated_input: Option<Map<String, Value>>,
}

/// How a request stands now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PermissionDecisionResult)]
pub(crate) struct DecisionView {
    /// What was asked for is what holds.
    ok: bool,
    request_id: String,
    /// `allow` or `deny`: what holds.
    #[schema(value_type = String)]
    decision: Decision,
    /// It was this call that decided.
    active: bool,
    /// Why it was not.
    message: Option<String>,
}

/// List the calls of a thread that wait for a decision
///
/// Oldest first. The run goes on when all of them are decided; until then the thread is `permission_asked`.
#[utoipa::path(get, path = "/threads/{id}/permission-requests", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "All of them", body = RequestList)))]
async fn list_requests(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<RequestList>> {
    find_thread(&api, &caller, &id).await?;
    let requests = api.store.list_open_requests(&caller.project, &id).await?;
    Ok(Json(RequestList { object: "list", data: requests.into_iter().map(Into::into).collect() }))
}

/// Allow or deny a call
///
/// The first decision counts. Whoever comes later is told what holds, with `active: false`.
#[utoipa::path(post, path = "/threads/{id}/permission-requests/{request_id}/decision", tag = "threads",
    params(
        ("id" = String, Path, description = "The thread's id"),
        ("request_id" = String, Path, description = "The request's id"),
    ),
    request_body = DecisionInput,
    responses((status = 200, description = "How the request stands now", body = DecisionView)))]
async fn decide(
    State(api): State<Api>,
    caller: Caller,
    Path((id, request_id)): Path<(ThreadId, PermissionRequestId)>,
    Body(body): Body<DecisionInput>,
) -> Result<Json<DecisionView>> {
    let decision = body.decision.parse::<Decision>();
    let decision = decision.map_err(|_| Error::invalid_field("decision", "must be allow or deny"))?;
    if body.reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON_CHARS) {
        return Err(Error::invalid_field("reason", format!("must have at most {MAX_REASON_CHARS} characters")));
    }
    if decision == Decision::Deny && body.updated_input.is_some() {
        return Err(Error::invalid_field("updatedInput", "has no meaning where the call is denied"));
    }
    let updated_input = body.updated_input.map(|input| Value::Object(input).to_string());
    let wish = Wish { decision, reason: body.reason, updated_input };
    let settled = api.store.decide_request(&caller.project, &id, &request_id, &wish).await?;
    Ok(Json(view(settled, decision)))
}

fn view(settled: Settled, wanted: Decision) -> DecisionView {
    let Settled { request, is_yours } = settled;
    // A request that was not decided would have been by this call.
    let (decision, by) = request.decided.map_or((wanted, Decider::User), |decided| (decided.decision, decided.by));
    let message = (!is_yours).then(|| match by {
        Decider::User => format!("It was decided before: {decision}"),
        Decider::Expiry => "Nobody decided in time, so it was denied".to_owned(),
        Decider::Cancel => "The run ended before it was decided".to_owned(),
    });
    let ok = is_yours || (by == Decider::User && decision == wanted);
    DecisionView { ok, request_id: request.id.into(), decision, active: is_yours, message }
}
