//! A budget as clients see it: all the names that one or the other computes with.

use chrono::{Datelike, Days, Months, NaiveDate, Utc};
use domain::{MicroUsd, budget::Period, tier::Tiers};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    auth::Caller,
    budgets::{Standing, UNLIMITED},
    error::BudgetNumbers,
    timestamp::Timestamp,
};

/// What a project may spend, and has spent. Every amount is in US dollars and there twice: under its name, and with `Usd`
/// behind it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct BudgetStatus {
    user_id: String,
    actor_user_id: String,
    organization_id: String,
    plan_id: &'static str,
    /// The project's; `self_hosted` where it has none.
    tier: String,
    subscription_status: &'static str,
    subscription_source: &'static str,
    /// No budget holds for what is done with this key.
    is_unlimited: bool,
    /// The month under way (UTC).
    period_start_date: Option<Timestamp>,
    period_end_date: Option<Timestamp>,
    #[serde(flatten)]
    numbers: BudgetNumbers,
    /// `currentPeriodUsage`, `tierQuota`, `availableBudget`, …
    #[serde(flatten)]
    #[schema(value_type = Object)]
    amounts: Map<String, Value>,
    usage_percentage: f64,
    usage_billing_enabled: bool,
    pause_on_limit: bool,
    resource_email_alerts: bool,
}

impl BudgetStatus {
    pub(super) fn new(caller: &Caller, tiers: &Tiers, standing: &Standing) -> Self {
        let available = standing.available();
        let month = standing.limit(Period::Month).or(standing.limit(Period::Total));
        let quota = month.unwrap_or(UNLIMITED);
        let sums = standing.sums;
        let left = available.unwrap_or(UNLIMITED);
        let mut amounts = Map::new();
        for (name, amount) in [
            ("spent", sums.this_month),
            ("currentPeriodUsage", sums.this_month),
            ("monthlyResourceSpend", sums.this_month),
            ("monthlyMeteredResourceUsage", sums.this_month),
            ("limit", quota),
            ("tierQuota", quota),
            ("includedTierQuota", quota),
            ("remaining", left),
            ("remainingIncludedQuota", left),
            ("availableBudget", left),
            ("totalAvailableBudget", left),
            ("topUpBalance", sums.added),
            ("topUpTotalPurchased", sums.added),
        ] {
            amounts.insert(name.to_owned(), amount.as_usd().into());
            amounts.insert(format!("{name}Usd"), amount.as_usd().into());
        }
        amounts.insert("balanceUsd".to_owned(), left.as_usd().into());
        amounts.insert("totalSpentUsd".to_owned(), sums.ever.as_usd().into());
        let monthly = standing.limit(Period::Month).map(MicroUsd::as_usd);
        amounts.insert("monthlyResourceSpendLimit".to_owned(), monthly.into());
        amounts.insert("monthlyResourceSpendLimitUsd".to_owned(), monthly.into());
        let first = Utc::now().date_naive().with_day(1);
        Self {
            user_id: caller.project.to_string(),
            actor_user_id: caller.key.to_string(),
            organization_id: caller.organization.to_string(),
            plan_id: "self_hosted",
            tier: caller.tier.clone().filter(|tier| tiers.is_known(tier)).unwrap_or_else(|| "self_hosted".to_owned()),
            subscription_status: "active",
            subscription_source: "self_hosted",
            is_unlimited: available.is_none(),
            period_start_date: first.map(start_of),
            period_end_date: first.and_then(|day| day.checked_add_months(Months::new(1))).map(start_of),
            numbers: standing.numbers(),
            amounts,
            usage_percentage: if quota.0 == 0 { 100.0 } else { sums.this_month.0 as f64 / quota.0 as f64 * 100.0 },
            usage_billing_enabled: true,
            pause_on_limit: true,
            resource_email_alerts: false,
        }
    }
}

pub(super) fn start_of(day: NaiveDate) -> Timestamp {
    day.and_time(chrono::NaiveTime::MIN).and_utc().into()
}

/// The last days up to today, the first of them.
pub(super) fn days_ago(days: u64) -> Option<NaiveDate> {
    Utc::now().date_naive().checked_sub_days(Days::new(days))
}

/// How what is spent is dealt with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BillingPreferences)]
pub(super) struct Preferences {
    user_id: String,
    billing: PreferredBilling,
    /// Empty: models are the server's matter.
    #[schema(value_type = Object)]
    inference: Map<String, Value>,
    usage: BudgetNumbers,
}

/// Limits, and what becomes of who reaches one.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PreferredBilling {
    /// Always true.
    usage_billing_enabled: bool,
    /// US dollars by the month; `null`: any.
    monthly_resource_spend_limit: Option<f64>,
    /// Always true: budgets are hard.
    pause_on_limit: bool,
    /// Always false.
    resource_email_alerts: bool,
}

impl Preferences {
    pub(super) fn new(caller: &Caller, standing: &Standing) -> Self {
        Self {
            user_id: caller.project.to_string(),
            billing: PreferredBilling {
                usage_billing_enabled: true,
                monthly_resource_spend_limit: standing.limit(Period::Month).map(MicroUsd::as_usd),
                pause_on_limit: true,
                resource_email_alerts: false,
            },
            inference: Map::new(),
            usage: standing.numbers(),
        }
    }
}
