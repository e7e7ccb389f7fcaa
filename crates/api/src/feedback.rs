//! `/threads/{id}/feedback`: thumbs and reports, one thumb a caller.

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    ThreadId,
    feedback::{Feedback, Rating, ReportKind},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result, auth::Caller, body::Body, check::Fields, error::ErrorBody, path::Path, timestamp::Timestamp,
};

const MAX_MESSAGE_CHARS: usize = 20_000;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(get_feedback, set_feedback)).routes(routes!(report_thread))
}

/// What callers think of a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FeedbackView {
    thread_id: String,
    up_count: i64,
    down_count: i64,
    /// The caller's own: `up`, `down` or null. A caller is an API key.
    user_rating: Option<&'static str>,
    report_count: i64,
}

impl FeedbackView {
    fn new(thread: ThreadId, feedback: Feedback) -> Self {
        Self {
            thread_id: thread.into(),
            up_count: feedback.up_count,
            down_count: feedback.down_count,
            user_rating: feedback.own.map(Rating::as_str),
            report_count: feedback.report_count,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
struct SetFeedback {
    /// `up` or `down`.
    #[schema(example = "up")]
    rating: String,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NewReport {
    /// `general`, `bug`, `child_safety` or `response`.
    #[schema(example = "bug")]
    report_type: String,
    /// 1 to 20,000 characters.
    message: String,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A report about a thread.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadReport)]
struct ReportView {
    id: String,
    thread_id: String,
    /// The API key that reported.
    user_id: String,
    report_type: &'static str,
    message: String,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    created_at: Timestamp,
}

/// Tell what callers think of a thread
#[utoipa::path(get, path = "/threads/{id}/feedback", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")),
    responses((status = 200, description = "The counts", body = FeedbackView)))]
async fn get_feedback(State(api): State<Api>, caller: Caller, Path(id): Path<ThreadId>) -> Result<Json<FeedbackView>> {
    let feedback = api.store.thread_feedback(&caller.project, &id, &caller.key).await?;
    Ok(Json(FeedbackView::new(id, feedback)))
}

/// Rate a thread
///
/// The newest rating of a caller counts.
#[utoipa::path(post, path = "/threads/{id}/feedback", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = SetFeedback,
    responses((status = 200, description = "The counts after it", body = FeedbackView)))]
async fn set_feedback(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<SetFeedback>,
) -> Result<Json<FeedbackView>> {
    let rating = body.rating.parse::<Rating>().map_err(|err| Error::invalid_field("rating", err.to_string()))?;
    api.store.rate_thread(&caller.project, &id, &caller.key, rating).await?;
    let feedback = api.store.thread_feedback(&caller.project, &id, &caller.key).await?;
    Ok(Json(FeedbackView::new(id, feedback)))
}

/// Report a thread
///
/// The report is kept for who runs this server.
#[utoipa::path(post, path = "/threads/{id}/feedback/report", tag = "threads",
    params(("id" = String, Path, description = "The thread's id")), request_body = NewReport,
    responses(
        (status = 201, description = "The report", body = ReportView),
        (status = 400, description = "The report says nothing", body = ErrorBody),
    ))]
async fn report_thread(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<ThreadId>,
    Body(body): Body<NewReport>,
) -> Result<(StatusCode, Json<ReportView>)> {
    let mut fields = Fields::default();
    let kind = body.report_type.parse::<ReportKind>();
    fields.check("reportType", kind.as_ref().map(|_| ()).map_err(ToString::to_string));
    fields.check(
        "message",
        match body.message.chars().count() {
            _ if body.message.trim().is_empty() => Err("must not be blank".into()),
            0..=MAX_MESSAGE_CHARS => Ok(()),
            _ => Err(format!("must have at most {MAX_MESSAGE_CHARS} characters")),
        },
    );
    fields.finish()?;
    let kind = kind.map_err(|err| Error::invalid_field("reportType", err.to_string()))?;
    let metadata = body.metadata.as_ref();
    let report = api.store.report_thread(&caller.project, &id, &caller.key, kind, &body.message, metadata).await?;
    Ok((
        StatusCode::CREATED,
        Json(ReportView {
            id: report.id.into(),
            thread_id: report.thread_id.into(),
            user_id: report.key_id.into(),
            report_type: report.kind.as_str(),
            message: report.message,
            metadata: report.metadata,
            created_at: report.created_at.into(),
        }),
    ))
}
