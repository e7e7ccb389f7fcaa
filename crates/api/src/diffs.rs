//! `/threads/{id}/diffs`: which files the tools of a thread wrote, and what they changed.

use std::ops::ControlFlow;

use axum::{Json, extract::State};
use domain::{
    RunId,
    event::{Detail, Event, Item, Recorded},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Result,
    auth::Caller,
    history::{self, find_thread_or_run},
    path::Path,
    query::Query,
    wire_event::GapView,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_diffs))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct DiffsQuery {
    /// Only what this run changed.
    execution_id: Option<String>,
}

/// Changed files. `diffs` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
struct Diffs {
    /// Always `list`.
    object: &'static str,
    diffs: Vec<DiffView>,
    data: Vec<DiffView>,
    /// The events that are kept no longer: what was changed then is not told. Null where none is missing.
    gap: Option<GapView>,
}

/// What was changed in a file.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ThreadDiff)]
struct DiffView {
    #[schema(example = "/workspace/app.py")]
    path: String,
    /// `added` or `modified`.
    status: &'static str,
    /// `created` or `modified`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Unified diffs, one after the other where the file was written several times.
    diff: String,
    /// Of all of them.
    additions: i64,
    deletions: i64,
}

/// Show the files that a thread changed
///
/// Made from the tools that write files (Write, Edit): one entry a file, with what each of them did to it in order. What a
/// shell command changed is not among it. A run's id in place of the thread's gives what that run changed.
#[utoipa::path(get, path = "/threads/{id}/diffs", tag = "threads",
    params(("id" = String, Path, description = "The thread's id, or a run's"), DiffsQuery),
    responses((status = 200, description = "The changes", body = Diffs)))]
async fn list_diffs(
    State(api): State<Api>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<DiffsQuery>,
) -> Result<Json<Diffs>> {
    let (thread, mut run) = find_thread_or_run(&api, &caller, &id).await?;
    let mut after = 0;
    if let Some(id) = query.execution_id.filter(|id| !id.is_empty()).or(run.take().map(Into::into)) {
        let found = history::find_run(&api, &caller, &thread, &id).await?;
        after = found.first_sequence - 1;
        run = Some(found.id);
    }
    let mut diffs: Vec<DiffView> = Vec::new();
    let gap = history::read(&api.store, &thread, after, |recorded| see(&mut diffs, run.as_ref(), recorded)).await?;
    Ok(Json(Diffs { object: "list", data: diffs.clone(), diffs, gap: gap.map(Into::into) }))
}

fn see(diffs: &mut Vec<DiffView>, run: Option<&RunId>, recorded: Recorded) -> ControlFlow<()> {
    // What agents did that a run has called, it did too; and they can be asked about by themselves.
    let is_own = recorded.own_run() == run;
    if run.is_some() && !is_own && recorded.run_id.as_ref() != run {
        return ControlFlow::Continue(());
    }
    let event = match recorded.event {
        Event::Subagent { event, .. } => *event,
        event => event,
    };
    match event {
        Event::ItemCompleted { item: Item::ToolCall(call) } => {
            let result = call.result.filter(|result| !result.is_error);
            if let Some(Detail::FileWrite { path, is_new, diff, additions, deletions }) = result.and_then(|r| r.detail)
            {
                add(
                    diffs,
                    DiffView {
                        path,
                        status: if is_new { "added" } else { "modified" },
                        kind: if is_new { "created" } else { "modified" },
                        diff,
                        additions,
                        deletions,
                    },
                );
            }
        }
        Event::RunFinished { .. } if run.is_some() && is_own => return ControlFlow::Break(()),
        _ => {}
    }
    ControlFlow::Continue(())
}

/// Adds a change behind those of the same file.
fn add(diffs: &mut Vec<DiffView>, change: DiffView) {
    match diffs.iter_mut().find(|diff| diff.path == change.path) {
        None => diffs.push(change),
        Some(diff) => {
            if !diff.diff.is_empty() && !diff.diff.ends_with('\n') {
                diff.diff.push('\n');
            }
            diff.diff.push_str(&change.diff);
            diff.additions += change.additions;
            diff.deletions += change.deletions;
        }
    }
}
