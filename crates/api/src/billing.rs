//! `/billing` and `/budget`: what may be spent, what was, and what was added.
//!
//! Nobody is paid through this server: a budget is a cap that the operator sets, a top-up raises it. What the hosted
//! service has beyond that (plans, checkouts, endpoints for inference) answers 501.

use axum::{Json, extract::State};
use domain::{MicroUsd, budget::Period};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    body::Body,
    budgets::{Standing, UNLIMITED},
    check::Fields,
    timestamp::Timestamp,
};

mod absent;
mod limits;
mod records;
mod usage;
mod view;

use view::{BudgetStatus, Preferences};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(get_budget))
        .routes(routes!(increase_budget))
        .routes(routes!(increase_legacy_budget))
        .routes(routes!(get_preferences, update_preferences))
        .merge(limits::routes())
        .merge(records::routes())
        .merge(usage::routes())
        .merge(absent::routes())
}

/// Show what may be spent
///
/// What the project may spend with this key, and has spent. Where there is no limit, the numbers that clients compute with
/// are 1,000,000,000.
#[utoipa::path(get, path = "/billing/budget", tag = "costs",
    responses((status = 200, description = "The budget", body = BudgetStatus)))]
async fn get_budget(State(api): State<Api>, caller: Caller) -> Result<Json<BudgetStatus>> {
    let standing = Standing::find(&api, &caller).await?;
    Ok(Json(BudgetStatus::new(&caller, &api.settings.tiers, &standing)))
}

/// Money for a budget.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Increase {
    /// US dollars.
    #[schema(example = 10.0)]
    #[serde(alias = "amount_usd")]
    amount_usd: Option<f64>,
    /// The same.
    amount: Option<f64>,
    description: Option<String>,
}

/// What was added, and what there is now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Increased {
    success: bool,
    id: String,
    user_id: String,
    actor_user_id: String,
    organization_id: String,
    /// US dollars, as all of these.
    added_amount: f64,
    added_amount_usd: f64,
    new_balance: f64,
    new_balance_usd: f64,
    total_spent: f64,
    total_spent_usd: f64,
    created_at: Timestamp,
}

/// Add money to the budget
///
/// It raises what the project may spend in all (`totalLimit`). A project without such a limit may spend what it likes before
/// and after; the record is kept.
#[utoipa::path(post, path = "/billing/budget/increase", tag = "costs", request_body = Increase,
    responses((status = 200, description = "It is added", body = Increased)))]
async fn increase_budget(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<Increase>,
) -> Result<Json<Increased>> {
    let amount = amount(&body)?;
    let added = api.store.add_top_up(&caller.project, amount, body.description.as_deref(), &caller.key).await?;
    let standing = Standing::find(&api, &caller).await?;
    let (amount, balance) = (added.amount.as_usd(), standing.available().unwrap_or(UNLIMITED).as_usd());
    let spent = standing.sums.ever.as_usd();
    Ok(Json(Increased {
        success: true,
        id: added.id,
        user_id: caller.project.to_string(),
        actor_user_id: caller.key.into(),
        organization_id: caller.organization.into(),
        added_amount: amount,
        added_amount_usd: amount,
        new_balance: balance,
        new_balance_usd: balance,
        total_spent: spent,
        total_spent_usd: spent,
        created_at: added.created_at.into(),
    }))
}

/// What was added, in the words of older clients.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LegacyBudget {
    /// US dollars, as all of these.
    previous_balance: f64,
    added_amount: f64,
    new_balance: f64,
}

/// `{success, budget}`.
#[derive(Debug, Serialize, ToSchema)]
struct LegacyIncreased {
    success: bool,
    budget: LegacyBudget,
}

/// Add money to the budget, for older clients
///
/// As `POST /billing/budget/increase`. What is said of a payment is not looked at.
#[utoipa::path(post, path = "/budget/increase", tag = "costs", request_body = Increase,
    responses((status = 200, description = "It is added", body = LegacyIncreased)))]
async fn increase_legacy_budget(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<Increase>,
) -> Result<Json<LegacyIncreased>> {
    let amount = amount(&body)?;
    let before = Standing::find(&api, &caller).await?.available().unwrap_or(UNLIMITED).as_usd();
    api.store.add_top_up(&caller.project, amount, body.description.as_deref(), &caller.key).await?;
    let after = Standing::find(&api, &caller).await?.available().unwrap_or(UNLIMITED).as_usd();
    let budget = LegacyBudget { previous_balance: before, added_amount: amount.as_usd(), new_balance: after };
    Ok(Json(LegacyIncreased { success: true, budget }))
}

/// The most that is taken at once.
const MAX_USD: f64 = 1_000_000_000.0;

fn amount(body: &Increase) -> Result<MicroUsd> {
    let field = if body.amount_usd.is_some() { "amountUsd" } else { "amount" };
    let amount = body.amount_usd.or(body.amount).ok_or_else(|| Error::missing_field("amountUsd"))?;
    let mut fields = Fields::default();
    if !(1e-6..=MAX_USD).contains(&amount) {
        fields.refuse(field, format!("must be at least a micro-dollar and at most {MAX_USD}"));
    }
    fields.finish()?;
    Ok(MicroUsd((amount * 1e6).round() as i64))
}

/// Show preferences
#[utoipa::path(get, path = "/billing/preferences", tag = "costs",
    responses((status = 200, description = "The preferences", body = Preferences)))]
async fn get_preferences(State(api): State<Api>, caller: Caller) -> Result<Json<Preferences>> {
    let standing = Standing::find(&api, &caller).await?;
    Ok(Json(Preferences::new(&caller, &standing)))
}

/// What is to be changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpdatePreferences {
    /// US dollars that the project may spend in a month; `null`: any.
    #[serde(default, alias = "monthly_resource_spend_limit")]
    #[schema(value_type = Option<f64>)]
    monthly_resource_spend_limit: crate::body::Patch<f64>,
    /// Only true: budgets are hard.
    #[serde(alias = "pause_on_limit")]
    pause_on_limit: Option<bool>,
    /// Only true.
    #[serde(alias = "usage_billing_enabled")]
    usage_billing_enabled: Option<bool>,
    /// Only false: this server sends no mail.
    #[serde(alias = "resource_email_alerts")]
    resource_email_alerts: Option<bool>,
    #[schema(value_type = Option<Object>)]
    inference: Option<serde_json::Value>,
}

/// Change preferences
#[utoipa::path(patch, path = "/billing/preferences", tag = "costs", request_body = UpdatePreferences,
    responses(
        (status = 200, description = "The preferences after the change", body = Preferences),
        (status = 501, description = "Something is asked for that this server does not have", body = crate::error::ErrorBody),
    ))]
async fn update_preferences(
    State(api): State<Api>,
    caller: Caller,
    Body(body): Body<UpdatePreferences>,
) -> Result<Json<Preferences>> {
    for (is_asked_for, what) in [
        (body.pause_on_limit == Some(false), "Spending more than a limit (pauseOnLimit: false)"),
        (body.usage_billing_enabled == Some(false), "Switching off the count of what is spent (usageBillingEnabled)"),
        (body.resource_email_alerts == Some(true), "Mail about what is spent (resourceEmailAlerts)"),
        (body.inference.as_ref().is_some_and(|value| !value.is_null()), "Choosing endpoints for inference (inference)"),
    ] {
        if is_asked_for {
            let message = format!("{what} is not supported");
            return Err(Error::not_implemented(message));
        }
    }
    limits::set_for_project(&api, &caller, Period::Month, body.monthly_resource_spend_limit).await?;
    let standing = Standing::find(&api, &caller).await?;
    Ok(Json(Preferences::new(&caller, &standing)))
}
