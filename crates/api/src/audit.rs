//! Who did what: one layer around all routes that may change something, and the route that shows it.
//!
//! A line holds the key, the route and the ids in the path: no query, no header and nothing of a body, so no secret can
//! come into it. It is written before the request is answered: who has an answer finds it in the log. A client that hangs
//! up before that leaves a line without a status.

use std::{collections::BTreeMap, net::SocketAddr};

use axum::{
    Json,
    extract::{ConnectInfo, MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use domain::audit::{AuditLine, WrittenLine};
use serde::{Deserialize, Serialize};
use store::{Store, audit::AuditFilter};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Result,
    auth::Caller,
    list::List,
    path::without_mount,
    query::{self, Query},
    scopes,
    timestamp::Timestamp,
    trace::RequestId,
};

/// The longest part of a path that is taken for an id.
const MAX_ID_BYTES: usize = 128;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_audit_log))
}

/// Writes down what a request does.
pub(crate) async fn layer(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(line) = begin(&request) else { return next.run(request).await };
    let mut line = Pending { store: api.store, line: Some(line) };
    let response = next.run(request).await;
    line.close(response.status().as_u16()).await;
    response
}

fn begin(request: &Request) -> Option<AuditLine> {
    let method = request.method();
    let route = without_mount(request.extensions().get::<MatchedPath>()?.as_str());
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        || scopes::required(method, route).is_some_and(domain::scope::Scope::is_read);
    if reads {
        return None;
    }
    let caller = request.extensions().get::<Caller>()?;
    Some(AuditLine {
        organization_id: caller.organization.clone(),
        project_id: caller.project.clone(),
        key_id: caller.key.clone(),
        method: method.to_string(),
        route: route.to_owned(),
        subject: subject(route, without_mount(request.uri().path())),
        status: None,
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()),
        address: request
            .extensions()
            .get()
            .map(|ConnectInfo(address): &ConnectInfo<SocketAddr>| address.ip().to_string()),
    })
}

/// Finds the ids in a path. The rest of a path (`{*path}`) names people's files and is left out.
fn subject(route: &str, path: &str) -> BTreeMap<String, String> {
    let ids = route.split('/').zip(path.split('/')).filter_map(|(name, value)| {
        let name = name.strip_prefix('{')?.strip_suffix('}')?;
        let is_id = !name.starts_with('*') && value.len() <= MAX_ID_BYTES && value.is_ascii();
        is_id.then(|| (name.to_owned(), value.to_owned()))
    });
    ids.collect()
}

/// A line that is written when its status is known, or when nobody waits for that any more.
struct Pending {
    store: Store,
    line: Option<AuditLine>,
}

impl Pending {
    async fn close(&mut self, status: u16) {
        let Some(line) = self.line.take() else { return };
        let written = tokio::spawn(write(self.store.clone(), AuditLine { status: Some(status), ..line }));
        // In a task of its own: it is written also if the client hangs up now.
        if let Err(err) = written.await {
            tracing::error!(error = &err as &dyn std::error::Error, "a line of the audit log was not written");
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            tokio::spawn(write(self.store.clone(), line));
        }
    }
}

async fn write(store: Store, line: AuditLine) {
    if let Err(err) = store.add_audit_line(&line).await {
        let error = &err as &dyn std::error::Error;
        tracing::error!(error, key = %line.key_id, method = line.method, route = line.route, status = line.status,
            "a line of the audit log was not written");
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct AuditQuery {
    project_id: Option<String>,
    key_id: Option<String>,
    user_id: Option<String>,
    /// `POST`, `PATCH`, …
    method: Option<String>,
    /// A path as this document has it, for example `/agents/{id}`.
    route: Option<String>,
    /// Only from this moment on (RFC 3339).
    since: Option<String>,
    /// Only before this moment.
    until: Option<String>,
    /// How many at most: 0 to 1000, 100 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

/// A request that may have changed something.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditLine)]
struct AuditLineView {
    id: i64,
    at: Timestamp,
    organization_id: String,
    project_id: String,
    key_id: String,
    /// Whose key it was then.
    user_id: Option<String>,
    method: String,
    #[schema(example = "/agents/{id}")]
    route: String,
    /// The ids in the path, by name.
    #[schema(value_type = Object)]
    subject: BTreeMap<String, String>,
    /// What it was answered with; `null` if the client had hung up.
    status: Option<u16>,
    request_id: Option<String>,
    address: Option<String>,
}

impl From<WrittenLine> for AuditLineView {
    fn from(written: WrittenLine) -> Self {
        let line = written.line;
        Self {
            id: written.id,
            at: written.at.into(),
            organization_id: line.organization_id.into(),
            project_id: line.project_id.into(),
            key_id: line.key_id.into(),
            user_id: written.user_id,
            method: line.method,
            route: line.route,
            subject: line.subject,
            status: line.status,
            request_id: line.request_id,
            address: line.address,
        }
    }
}

/// Read the audit log
///
/// Every request that may have changed something, newest first, with what it was answered; refused ones too. It is only
/// added to.
#[utoipa::path(get, path = "/admin/audit-log", tag = "admin", params(AuditQuery),
    responses((status = 200, description = "A part of the log", body = List<AuditLineView>)))]
async fn list_audit_log(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Result<Json<List<AuditLineView>>> {
    let page = query::page(query.limit, query.offset, 100, 1000)?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = AuditFilter {
        project_id: given(query.project_id),
        key_id: given(query.key_id),
        user_id: given(query.user_id),
        method: given(query.method).map(|method| method.to_ascii_uppercase()),
        route: given(query.route),
        since: query::moment("since", query.since.as_deref())?,
        until: query::moment("until", query.until.as_deref())?,
    };
    let lines = api.store.list_audit_lines(&caller.organization, &filter, page).await?;
    Ok(Json(List::new(lines, page, AuditLineView::from)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_the_ids_and_no_files_name() {
        let found = subject("/environments/{id}/files/{*path}", "/environments/env_1/files/salaries/anna.xls");
        assert_eq!(found, BTreeMap::from([("id".to_owned(), "env_1".to_owned())]));
        let found = subject("/threads/{id}/queue/{runId}", "/threads/t/queue/r");
        assert_eq!(found.into_iter().map(|(name, id)| format!("{name}={id}")).collect::<Vec<_>>(), ["id=t", "runId=r"]);
        assert!(subject("/agents/{id}", &format!("/agents/{}", "x".repeat(200))).is_empty());
    }
}
