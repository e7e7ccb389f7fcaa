//! A session of research as clients see it: all fields that any of them reads.
//!
//! Source of the shape: SDK 2.6.6 `ResearchSession`, the platform's OpenAPI `DeepResearchSession`.

use chrono::Utc;
use domain::research::{Phase, ResearchStatus, Session, Source};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ResearchSession)]
pub(super) struct SessionView {
    #[schema(example = "research_0198c0f2a7d07d1c9f7b1f5b5b0c2a11")]
    id: String,
    thread_id: String,
    user_id: String,
    /// The same as `id`.
    interaction_id: String,
    /// The question; the same as `topic`.
    query: String,
    topic: String,
    /// `starting`, `researching`, `generating`, `verifying`, `completed`, `failed` or `cancelled`.
    #[schema(example = "researching")]
    status: &'static str,
    /// Of a hundred.
    progress: i32,
    /// The pages that were read, in the order in which they were; null in lists.
    results: Option<Vec<SourceView>>,
    thinking_summaries: Vec<SummaryView>,
    /// The report in the workspace.
    report_path: Option<String>,
    /// The list of its sources, beside it.
    report_manifest_path: Option<String>,
    /// Of the report, in characters.
    report_length: Option<i64>,
    /// Pages that were read.
    sources_count: i32,
    error_message: Option<String>,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    elapsed_seconds: i64,
    metadata: MetadataView,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// A page that was read.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ResearchSource)]
pub(super) struct SourceView {
    /// As the report cites it.
    number: i32,
    /// Where the page was in the end.
    url: String,
    title: Option<String>,
    fetched_at: Timestamp,
    /// BLAKE3 of the text that was read.
    blake3: String,
    is_cited: bool,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ResearchSummary)]
pub(super) struct SummaryView {
    timestamp: Timestamp,
    phase: &'static str,
    summary: String,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ResearchMetadata)]
pub(super) struct MetadataView {
    /// The run that asked.
    run_id: String,
    /// The call that is answered: the `id` of its item.
    tool_use_id: String,
    model: String,
    /// What the question was divided into.
    questions: Vec<String>,
    /// Citations of the draft that are not in the report, as what they named was not read.
    dropped_citations: Vec<String>,
    /// Questions whose reading was stopped at a limit.
    unfinished_questions: Vec<String>,
    resume_attempts: i32,
}

impl SessionView {
    pub(super) fn new(session: Session, sources: Option<Vec<Source>>) -> Self {
        let end = session.completed_at.unwrap_or_else(Utc::now);
        let report = session.report.unwrap_or_default();
        let given = |text: String| (!text.is_empty()).then_some(text);
        let has_report = !report.path.is_empty();
        Self {
            id: session.id.to_string(),
            thread_id: session.thread_id.into(),
            user_id: session.project_id.into(),
            interaction_id: session.id.to_string(),
            query: session.query.clone(),
            topic: session.query,
            status: match session.status {
                ResearchStatus::Running => phase(session.phase),
                over => over.as_str(),
            },
            progress: session.progress,
            results: sources.map(|sources| sources.into_iter().map(SourceView::from).collect()),
            thinking_summaries: session
                .notes
                .into_iter()
                .map(|note| SummaryView { timestamp: note.at.into(), phase: phase(note.phase), summary: note.summary })
                .collect(),
            report_path: given(report.path),
            report_manifest_path: given(report.manifest_path),
            report_length: has_report.then_some(report.characters),
            sources_count: session.sources,
            error_message: session.error,
            started_at: session.created_at.into(),
            completed_at: session.completed_at.map(Into::into),
            elapsed_seconds: (end - session.created_at).num_seconds().max(0),
            metadata: MetadataView {
                run_id: session.run_id.into(),
                tool_use_id: session.call_id,
                model: session.model,
                questions: session.questions,
                dropped_citations: report.dropped,
                unfinished_questions: report.unfinished,
                resume_attempts: session.resumes,
            },
            created_at: session.created_at.into(),
            updated_at: session.updated_at.into(),
        }
    }
}

impl From<Source> for SourceView {
    fn from(source: Source) -> Self {
        Self {
            number: source.number,
            url: source.url,
            title: source.title,
            fetched_at: source.fetched_at.into(),
            blake3: source.hash,
            is_cited: source.is_cited,
        }
    }
}

/// The clients' word for what a session is busy with.
fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Planning => "starting",
        Phase::Researching => "researching",
        Phase::Writing => "generating",
        Phase::Verifying => "verifying",
    }
}
