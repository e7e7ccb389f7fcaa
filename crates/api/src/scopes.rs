//! What a key must be allowed, by route: one table, which the layer enforces and the OpenAPI document shows.
//!
//! A route wants the scope of its area, by the first word of its path: the one to read for a GET, the one to write for
//! the rest. What differs from that is listed by method and path. A route of no known area would be closed to everybody;
//! a test sees to it that there is none.

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::scope::Scope;
use serde_json::json;

use crate::{Error, Result, auth::Caller, path::without_mount};

/// First word of the path, what reading wants, what changing wants.
const AREAS: [(&str, Scope, Scope); 18] = [
    ("agents", Scope::AgentsRead, Scope::AgentsWrite),
    ("skills", Scope::AgentsRead, Scope::AgentsWrite),
    ("environments", Scope::EnvironmentsRead, Scope::EnvironmentsWrite),
    ("git", Scope::EnvironmentsRead, Scope::EnvironmentsWrite),
    ("files", Scope::EnvironmentsRead, Scope::EnvironmentsWrite),
    ("directories", Scope::EnvironmentsRead, Scope::EnvironmentsWrite),
    ("threads", Scope::ThreadsRead, Scope::ThreadsWrite),
    ("runs", Scope::ThreadsRead, Scope::ThreadsWrite),
    ("schedules", Scope::SchedulesRead, Scope::SchedulesWrite),
    ("triggers", Scope::SchedulesRead, Scope::SchedulesWrite),
    ("webhooks", Scope::ProjectsRead, Scope::ProjectsWrite),
    ("projects", Scope::ProjectsRead, Scope::ProjectsWrite),
    ("project", Scope::ProjectsRead, Scope::ProjectsWrite),
    ("costs", Scope::BillingRead, Scope::BillingWrite),
    ("billing", Scope::BillingRead, Scope::BillingWrite),
    ("budget", Scope::BillingRead, Scope::BillingWrite),
    ("api-keys", Scope::KeysRead, Scope::KeysWrite),
    ("admin", Scope::Admin, Scope::Admin),
];

/// Routes that want something else than their area says.
const EXCEPTIONS: [(Method, &str, Scope); 20] = [
    // They read, by POST.
    (Method::POST, "/threads/search", Scope::ThreadsRead),
    (Method::POST, "/environments/{id}/dockerfile/validate", Scope::EnvironmentsRead),
    // They ask a model, or decide what a run does.
    (Method::POST, "/threads/{id}/messages", Scope::Execute),
    (Method::POST, "/runs", Scope::Execute),
    (Method::POST, "/threads/{id}/activity/messages", Scope::Execute),
    (Method::POST, "/threads/{id}/activity/classify", Scope::Execute),
    (Method::POST, "/threads/{id}/cancel", Scope::Execute),
    (Method::POST, "/threads/{id}/resume", Scope::Execute),
    (Method::POST, "/threads/{id}/runs/{runId}/control", Scope::Execute),
    (Method::POST, "/threads/{id}/runs/{runId}/steering", Scope::Execute),
    (Method::PATCH, "/threads/{id}/queue/{runId}", Scope::Execute),
    (Method::DELETE, "/threads/{id}/queue/{runId}", Scope::Execute),
    (Method::POST, "/threads/{id}/context/actions", Scope::Execute),
    (Method::POST, "/threads/{id}/context/actions/btw/stream", Scope::Execute),
    (Method::POST, "/threads/{id}/generate-title", Scope::Execute),
    (Method::POST, "/threads/{id}/permission-requests/{request_id}/decision", Scope::Execute),
    (Method::POST, "/schedules/{id}/trigger", Scope::Execute),
    (Method::POST, "/triggers/{id}/test", Scope::Execute),
    // They are above a single project.
    (Method::POST, "/projects", Scope::Admin),
    (Method::DELETE, "/projects/{id}", Scope::Admin),
];

/// Gives what a route wants, by its path in the table of routes; `None` for a route that nobody thought of.
pub(crate) fn required(method: &Method, route: &str) -> Option<Scope> {
    let route = without_mount(route);
    let exception = EXCEPTIONS.iter().find(|(on, path, _)| on == method && *path == route);
    if let Some((_, _, scope)) = exception {
        return Some(*scope);
    }
    let first = route.trim_start_matches('/').split('/').next()?;
    let (_, read, write) = AREAS.iter().find(|(area, ..)| *area == first)?;
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    Some(if reads { *read } else { *write })
}

/// Lets a request pass whose key has the scope of its route.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(err) => err.into_response(),
    }
}

fn check(request: &Request) -> Result<()> {
    let caller = request.extensions().get::<Caller>();
    let caller = caller.ok_or_else(|| Error::internal("scopes are looked at before the caller is known"))?;
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let needed = required(request.method(), route)
        .ok_or_else(|| Error::internal(format!("no scope is set for {} {route}", request.method())))?;
    caller.require(needed)
}

impl Caller {
    /// Refuses a key that lacks a scope.
    pub(crate) fn require(&self, needed: Scope) -> Result<()> {
        if self.scopes.include(needed) {
            return Ok(());
        }
        let message = format!("The API key does not have the scope '{needed}', which this needs");
        Err(Error::new(StatusCode::FORBIDDEN, message)
            .with_code("insufficient_scope")
            .with_details(json!({"requiredScope": needed.as_str(), "scopes": self.scopes.words()})))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_with_a_key_has_a_scope_and_every_exception_a_route() {
        let document = serde_json::to_value(crate::openapi()).expect("JSON");
        let mut exceptions: Vec<_> = EXCEPTIONS.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
        let mut checked = 0;
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("an item") {
                let method: Method = method.to_uppercase().parse().expect("a method");
                if operation["security"] == json!([{}]) {
                    continue;
                }
                let scope = required(&method, path);
                let scope = scope.unwrap_or_else(|| panic!("{method} {path} has no scope: add its area to AREAS"));
                assert_eq!(operation["x-required-scope"], scope.as_str(), "{method} {path}");
                assert_eq!(operation["security"][0]["bearer"], json!([scope.as_str()]), "{method} {path}");
                exceptions.retain(|exception| *exception != format!("{method} {path}"));
                checked += 1;
            }
        }
        assert!(checked > 100, "{checked}");
        assert_eq!(exceptions, Vec::<String>::new(), "exceptions without a route");
        assert_eq!(required(&Method::GET, "/v1/threads/{id}"), Some(Scope::ThreadsRead));
        assert_eq!(required(&Method::GET, "/elsewhere"), None);
    }
}
