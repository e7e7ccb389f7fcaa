//! `/billing/limits`: the budgets of a project, its keys and its agents.

use axum::{Json, extract::State};
use domain::{
    MicroUsd,
    budget::{Budget, Cap, Period, Subject},
};
use serde::{Deserialize, Serialize};
use store::{Page, Paged};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::MAX_USD;
use crate::{
    Api, Result,
    auth::Caller,
    body::{Body, Patch},
    check::Fields,
    list::List,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_limits, set_limits))
}

/// A budget, and what was spent of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Budget)]
struct BudgetView {
    /// `project`, `key` or `agent`.
    #[schema(example = "agent")]
    subject: &'static str,
    /// The key's or the agent's; `null` for the project.
    id: Option<String>,
    /// `day`, `month` (both UTC) or `total`.
    #[schema(example = "day")]
    period: &'static str,
    /// US dollars, as the next two. A project's total has what was added to it.
    limit_usd: f64,
    spent_usd: f64,
    remaining_usd: f64,
    is_exhausted: bool,
}

impl From<Budget> for BudgetView {
    fn from(budget: Budget) -> Self {
        Self {
            subject: budget.subject.as_str(),
            period: budget.period.as_str(),
            limit_usd: budget.limit.as_usd(),
            spent_usd: budget.spent.as_usd(),
            remaining_usd: budget.remaining().as_usd(),
            is_exhausted: budget.is_exhausted(),
            id: Some(budget.subject_id).filter(|id| !id.is_empty()),
        }
    }
}

/// Budgets to be set. An absent limit is left alone, `null` removes it, 0 forbids to spend anything.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SetLimits {
    /// `project` (if absent), `key` or `agent`.
    subject: Option<String>,
    /// The key's or the agent's.
    id: Option<String>,
    /// US dollars by the day (UTC).
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    daily_limit: Patch<f64>,
    /// US dollars by the month (UTC).
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    monthly_limit: Patch<f64>,
    /// US dollars in all.
    #[serde(default)]
    #[schema(value_type = Option<f64>)]
    total_limit: Patch<f64>,
}

/// List budgets
///
/// The project's first.
#[utoipa::path(get, path = "/billing/limits", tag = "costs",
    responses((status = 200, description = "All of them", body = List<BudgetView>)))]
async fn list_limits(State(api): State<Api>, caller: Caller) -> Result<Json<List<BudgetView>>> {
    let items = api.store.list_budgets(&caller.project).await?;
    let total = items.len() as i64;
    Ok(Json(List::new(Paged { items, total }, Page::ALL, BudgetView::from)))
}

/// Set budgets
///
/// They hold from the next model call on, also for runs under way. What is asked while one is used up is answered with 402.
#[utoipa::path(put, path = "/billing/limits", tag = "costs", request_body = SetLimits,
    responses((status = 200, description = "All budgets after it", body = List<BudgetView>)))]
async fn set_limits(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<SetLimits>,
) -> Result<Json<List<BudgetView>>> {
    let mut fields = Fields::default();
    let subject = match body.subject.as_deref().map(str::parse::<Subject>) {
        None => Subject::Project,
        Some(Ok(subject)) => subject,
        Some(Err(_)) => {
            fields.refuse("subject", "must be project, key or agent");
            Subject::Project
        }
    };
    let subject_id = body.id.unwrap_or_default();
    match (subject, subject_id.is_empty()) {
        (Subject::Project, false) => fields.refuse("id", "must be absent for the project"),
        (Subject::Key | Subject::Agent, true) => fields.refuse("id", "must name a key or an agent"),
        (Subject::Project, true) | (Subject::Key | Subject::Agent, false) => {}
    }
    let limits = [
        (Period::Day, "dailyLimit", body.daily_limit),
        (Period::Month, "monthlyLimit", body.monthly_limit),
        (Period::Total, "totalLimit", body.total_limit),
    ];
    let mut caps = Vec::new();
    for (period, field, limit) in limits {
        if let Some(limit) = read(&mut fields, field, limit) {
            caps.push(Cap { subject, subject_id: subject_id.clone(), period, limit });
        }
    }
    fields.finish()?;
    api.store.set_budgets(&caller.project, &caps).await?;
    list_limits(State(api), caller).await
}

/// Sets one of the project's own.
pub(super) async fn set_for_project(api: &Api, caller: &Caller, period: Period, limit: Patch<f64>) -> Result<()> {
    let mut fields = Fields::default();
    let limit = read(&mut fields, "monthlyResourceSpendLimit", limit);
    fields.finish()?;
    let Some(limit) = limit else { return Ok(()) };
    let cap = Cap { subject: Subject::Project, subject_id: String::new(), period, limit };
    Ok(api.store.set_budgets(&caller.project, &[cap]).await?)
}

/// Gives what is to be set, if anything is.
fn read(fields: &mut Fields, field: &str, limit: Patch<f64>) -> Option<Option<MicroUsd>> {
    match limit {
        Patch::Absent => None,
        Patch::Null => Some(None),
        Patch::Value(usd) if (0.0..=MAX_USD).contains(&usd) => Some(Some(MicroUsd((usd * 1e6).round() as i64))),
        Patch::Value(_) => {
            fields.refuse(field, format!("must be between 0 and {MAX_USD}"));
            None
        }
    }
}
