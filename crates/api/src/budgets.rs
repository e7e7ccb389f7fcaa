//! 402: whether a model may be asked at all, before a run is made for it.
//!
//! The executor looks at the same before each model call; this is the early answer.

use axum::http::StatusCode;
use domain::{
    AgentId, MicroUsd, ThreadId,
    budget::{self, Budget, Period, Subject},
};
use serde_json::json;
use store::{budgets::SpentSums, runs::Idempotency};

use crate::{Api, Error, Result, auth::Caller, error::BudgetNumbers};

/// What is shown as the limit where there is none: clients compute with it, so it must be a number.
pub(crate) const UNLIMITED: MicroUsd = MicroUsd(1_000_000_000_000_000);

/// Finds a budget of the caller's project, its key or the agent that is used up.
pub(crate) async fn find_exhausted(api: &Api, caller: &Caller, agent: Option<&AgentId>) -> Result<Option<Budget>> {
    let budgets = api.store.budgets_in_force(&caller.project, agent, Some(&caller.key)).await?;
    Ok(budget::exhausted(&budgets).cloned())
}

/// Refuses what would ask a model while a budget is used up.
pub(crate) async fn check(api: &Api, caller: &Caller, agent: Option<&AgentId>) -> Result<()> {
    match find_exhausted(api, caller, agent).await? {
        None => Ok(()),
        Some(exhausted) => Err(refuse(api, caller, &exhausted).await?),
    }
}

/// The same for work in a thread.
pub(crate) async fn check_thread(api: &Api, caller: &Caller, thread: &ThreadId) -> Result<()> {
    let budgets = api.store.budgets_in_thread(&caller.project, thread, Some(&caller.key)).await?;
    match budget::exhausted(&budgets) {
        None => Ok(()),
        Some(exhausted) => Err(refuse(api, caller, exhausted).await?),
    }
}

/// Lets a refused request pass if it repeats one that was carried out: that is answered as it was.
pub(crate) async fn or_repeated(
    api: &Api,
    caller: &Caller,
    verdict: Result<()>,
    idempotency: Option<&Idempotency>,
) -> Result<()> {
    match (verdict, idempotency) {
        (Err(refused), Some(idempotency)) => match api.store.is_repeated(&caller.project, idempotency).await? {
            true => Ok(()),
            false => Err(refused),
        },
        (verdict, _) => verdict,
    }
}

async fn refuse(api: &Api, caller: &Caller, exhausted: &Budget) -> Result<Error> {
    let standing = Standing::find(api, caller).await?;
    let message = format!("{}; raise it, or wait for the next day or month where it is by these", exhausted.sentence());
    let details = json!({
        "subject": exhausted.subject.as_str(),
        "id": exhausted.subject_id,
        "period": exhausted.period.as_str(),
        "limit": exhausted.limit.as_usd(),
        "spent": exhausted.spent.as_usd(),
    });
    Ok(Error::new(StatusCode::PAYMENT_REQUIRED, message)
        .with_code("INSUFFICIENT_BUDGET")
        .with_details(details)
        .with_budget(standing.numbers()))
}

/// What a project may spend and has spent.
pub(crate) struct Standing {
    pub budgets: Vec<Budget>,
    pub sums: SpentSums,
}

impl Standing {
    pub(crate) async fn find(api: &Api, caller: &Caller) -> Result<Self> {
        let budgets = api.store.budgets_in_force(&caller.project, None, Some(&caller.key)).await?;
        Ok(Self { budgets, sums: api.store.spent_sums(&caller.project).await? })
    }

    /// The project's limit of a period.
    pub(crate) fn limit(&self, period: Period) -> Option<MicroUsd> {
        let of_project = |budget: &&Budget| budget.subject == Subject::Project && budget.period == period;
        self.budgets.iter().find(of_project).map(|budget| budget.limit)
    }

    /// What may still be spent with the caller's key: the least that is left of anything.
    pub(crate) fn available(&self) -> Option<MicroUsd> {
        self.budgets.iter().map(Budget::remaining).min()
    }

    pub(crate) fn numbers(&self) -> BudgetNumbers {
        let limit = |period| self.limit(period).map(MicroUsd::as_usd);
        BudgetNumbers {
            balance: self.available().unwrap_or(UNLIMITED).as_usd(),
            daily_limit: limit(Period::Day),
            daily_spent: self.sums.today.as_usd(),
            monthly_limit: limit(Period::Month),
            monthly_spent: self.sums.this_month.as_usd(),
            total_limit: limit(Period::Total),
            total_spent: self.sums.ever.as_usd(),
        }
    }
}
