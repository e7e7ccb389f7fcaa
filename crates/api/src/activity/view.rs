//! Actions, groups and clusters as clients see them.

use domain::{
    ThreadId,
    event::{Event, Item, Recorded},
    run::Run,
};
use serde::Serialize;
use store::events::Gap;
use utoipa::ToSchema;

use crate::{history::Call, timestamp::Timestamp, wire_event::GapView};

/// A tool call.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadAction)]
pub(super) struct ActionView {
    id: String,
    thread_id: String,
    run_id: Option<String>,
    /// The number of the event by which the model asked for it.
    sequence: i64,
    activity_group_id: Option<String>,
    source_event_id: String,
    /// Always `tool_call`.
    #[serde(rename = "type")]
    kind: &'static str,
    #[schema(example = "Bash")]
    title: String,
    #[schema(example = "Bash: ls -l")]
    summary: String,
    /// `running`, `completed`, `failed`, or `cancelled` if its run ended without a result.
    #[schema(example = "completed")]
    status: &'static str,
    tool_name: String,
    /// The tool's input, as a string of JSON.
    input: String,
    /// What the model read of the result.
    output: Option<String>,
    permission_ring: Option<String>,
    policy_decision: Option<String>,
    /// The file it read or wrote.
    touched_resources: Vec<TouchedResource>,
    snapshot_before_id: Option<String>,
    snapshot_after_id: Option<String>,
    duration_ms: Option<i64>,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    created_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
struct TouchedResource {
    /// Always `file`.
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    /// `read`, `created` or `modified`.
    access: &'static str,
}

impl ActionView {
    pub(super) fn new(thread: &ThreadId, call: &Call) -> Self {
        let result = call.result.as_ref();
        let touched = call.touched().map(|(path, access)| TouchedResource { kind: "file", path: path.into(), access });
        Self {
            id: call.id.clone(),
            thread_id: thread.to_string(),
            run_id: call.run_id.as_ref().map(ToString::to_string),
            sequence: call.sequence,
            activity_group_id: call.run_id.as_ref().map(|run| group_id(run.as_str())),
            source_event_id: event_id(thread.as_str(), call.sequence),
            kind: "tool_call",
            title: call.name.clone(),
            summary: call.summary(),
            status: call.status(),
            tool_name: call.name.clone(),
            input: call.input.clone(),
            output: result.map(|(result, _)| result.text.clone()),
            permission_ring: None,
            policy_decision: None,
            touched_resources: touched.into_iter().collect(),
            snapshot_before_id: None,
            snapshot_after_id: None,
            duration_ms: result.map(|(result, _)| result.duration_ms),
            started_at: call.started_at.into(),
            completed_at: result.map(|(_, at)| (*at).into()),
            created_at: call.started_at.into(),
        }
    }
}

/// A part of a thread's tool calls. `actions` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ActionList {
    /// Always `list`.
    object: &'static str,
    actions: Vec<ActionView>,
    data: Vec<ActionView>,
    /// The events that are kept no longer and so are not told of. Null where none is missing.
    gap: Option<GapView>,
    #[serde(rename = "has_more")]
    has_more: bool,
    /// The `cursor` of the part after this one; null at the end.
    next_cursor: Option<String>,
}

impl ActionList {
    /// Makes the envelope of up to `limit` calls; one more than that tells that there are more.
    pub(super) fn new(mut actions: Vec<ActionView>, limit: i64, gap: Option<Gap>) -> Self {
        let has_more = cut(&mut actions, limit);
        let next_cursor = actions.last().filter(|_| has_more).map(|last| last.sequence.to_string());
        Self { object: "list", data: actions.clone(), actions, gap: gap.map(Into::into), has_more, next_cursor }
    }
}

/// A run with its tool calls.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ActivityGroup)]
pub(super) struct GroupView {
    id: String,
    thread_id: String,
    run_id: String,
    /// The number of its first event.
    sequence: i64,
    version: i32,
    /// `open` while its run is under way, then `sealed`.
    status: &'static str,
    title: String,
    live_summary: Option<String>,
    rationale: Option<String>,
    parent_group_id: Option<String>,
    child_group_ids: Vec<String>,
    action_ids: Vec<String>,
    event_ids: Vec<String>,
    start_sequence: i64,
    /// The number of its newest event.
    end_sequence: i64,
    highest_permission_ring: Option<String>,
    metrics: GroupMetrics,
    created_at: Timestamp,
    updated_at: Timestamp,
    sealed_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct GroupMetrics {
    action_count: i32,
    duration_ms: Option<i64>,
    input_tokens: i64,
    output_tokens: i64,
    cost_usd: f64,
    cost_ct: Option<i64>,
}

impl GroupView {
    /// Makes the group of a run, before its events are known.
    pub(super) fn new(run: &Run) -> Self {
        let is_over = run.status.is_over();
        let duration = run.started_at.zip(run.completed_at).map(|(start, end)| (end - start).num_milliseconds());
        Self {
            id: group_id(run.id.as_str()),
            thread_id: run.thread_id.to_string(),
            run_id: run.id.to_string(),
            sequence: run.first_sequence,
            version: 1,
            status: if is_over { "sealed" } else { "open" },
            title: format!("Run {}", run.status),
            live_summary: None,
            rationale: None,
            parent_group_id: None,
            child_group_ids: Vec::new(),
            action_ids: Vec::new(),
            event_ids: Vec::new(),
            start_sequence: run.first_sequence,
            end_sequence: run.first_sequence,
            highest_permission_ring: None,
            metrics: GroupMetrics {
                action_count: run.calls,
                duration_ms: duration,
                input_tokens: run.spent.prompt_tokens(),
                output_tokens: run.spent.output_tokens,
                cost_usd: run.spent.cost.as_usd(),
                cost_ct: None,
            },
            created_at: run.queued_at.into(),
            updated_at: run.completed_at.or(run.started_at).unwrap_or(run.queued_at).into(),
            sealed_at: run.completed_at.map(Into::into),
        }
    }

    pub(super) fn run_id(&self) -> &str {
        &self.run_id
    }

    pub(super) fn first_sequence(&self) -> i64 {
        self.start_sequence
    }

    /// Takes note of an event of the run.
    pub(super) fn see(&mut self, recorded: &Recorded) {
        self.end_sequence = recorded.sequence;
        self.event_ids.push(event_id(&self.thread_id, recorded.sequence));
        match &recorded.event {
            Event::ItemStarted { item: Item::ToolCall(call) } => self.action_ids.push(call.id.clone()),
            Event::ItemCompleted { item: Item::Text { text } } => {
                self.live_summary = Some(text.chars().take(200).collect());
            }
            _ => {}
        }
    }
}

/// A part of a thread's groups. `activityGroups`, `groups` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupList {
    /// Always `list`.
    object: &'static str,
    activity_groups: Vec<GroupView>,
    groups: Vec<GroupView>,
    data: Vec<GroupView>,
    /// The events that are kept no longer and so are not told of. Null where none is missing.
    gap: Option<GapView>,
    #[serde(rename = "has_more")]
    has_more: bool,
    /// The `cursor` of the part after this one; null at the end.
    next_cursor: Option<String>,
}

impl GroupList {
    /// Makes the envelope of up to `limit` groups; one more than that tells that there are more.
    pub(super) fn new(mut groups: Vec<GroupView>, limit: i64, gap: Option<Gap>) -> Self {
        let has_more = cut(&mut groups, limit);
        let next_cursor = groups.last().filter(|_| has_more).map(|last| last.sequence.to_string());
        Self {
            object: "list",
            activity_groups: groups.clone(),
            data: groups.clone(),
            groups,
            gap: gap.map(Into::into),
            has_more,
            next_cursor,
        }
    }
}

/// All calls of one tool that ended alike.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TraceCluster)]
struct ClusterView {
    #[schema(example = "Bash:failed")]
    id: String,
    thread_id: String,
    tool_name: String,
    /// As of an action.
    status: &'static str,
    title: String,
    count: usize,
    /// Of all of them together.
    duration_ms: i64,
    /// The first of them.
    action_ids: Vec<String>,
    first_seen_at: Timestamp,
    last_seen_at: Timestamp,
}

/// A thread's tool calls by kind. `clusters` and `data` are the same.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterList {
    /// Always `list`.
    object: &'static str,
    thread_id: String,
    clusters: Vec<ClusterView>,
    data: Vec<ClusterView>,
    /// The events that are kept no longer and so are not told of. Null where none is missing.
    gap: Option<GapView>,
    #[serde(rename = "has_more")]
    has_more: bool,
}

impl ClusterList {
    pub(super) fn new(thread: &ThreadId, calls: &[Call], limit: i64, steps: i64, gap: Option<Gap>) -> Self {
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let mut clusters: Vec<ClusterView> = Vec::new();
        for call in calls {
            let (name, status) = (&call.name, call.status());
            let duration = call.result.as_ref().map_or(0, |(result, _)| result.duration_ms);
            let known = clusters.iter_mut().find(|cluster| cluster.tool_name == *name && cluster.status == status);
            match known {
                Some(cluster) => {
                    cluster.count += 1;
                    cluster.duration_ms += duration;
                    cluster.last_seen_at = call.started_at.into();
                    if cluster.action_ids.len() < steps {
                        cluster.action_ids.push(call.id.clone());
                    }
                }
                None => clusters.push(ClusterView {
                    id: format!("{name}:{status}"),
                    thread_id: thread.to_string(),
                    tool_name: name.clone(),
                    status,
                    title: format!("{name} {status}"),
                    count: 1,
                    duration_ms: duration,
                    action_ids: Some(call.id.clone()).into_iter().take(steps).collect(),
                    first_seen_at: call.started_at.into(),
                    last_seen_at: call.started_at.into(),
                }),
            }
        }
        clusters.sort_by_key(|cluster| std::cmp::Reverse(cluster.count));
        let has_more = cut(&mut clusters, limit);
        let gap = gap.map(Into::into);
        Self { object: "list", thread_id: thread.to_string(), data: clusters.clone(), clusters, gap, has_more }
    }
}

/// Gives the id of a run's group.
pub(super) fn group_id(run: &str) -> String {
    format!("group_{run}")
}

/// Gives the id that an event has in `/threads/{id}/events`.
fn event_id(thread: &str, sequence: i64) -> String {
    format!("{thread}:{sequence}")
}

/// Leaves `limit` items and tells whether there were more.
fn cut<T>(items: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(0);
    let has_more = items.len() > limit;
    items.truncate(limit);
    has_more
}
