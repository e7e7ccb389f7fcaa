//! `/billing/records` and `/billing/transactions`: a line for each run, each model call beside runs, and each top-up.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use store::costs::{Range, Record};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    Api, Error, Result,
    auth::Caller,
    costs::moment,
    list::List,
    query::{self, Query},
    timestamp::Timestamp,
};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list_records)).routes(routes!(list_transactions))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RecordsQuery {
    /// Only from this day or moment on.
    since: Option<String>,
    /// The same.
    from: Option<String>,
    /// Only up to this day, or before this moment.
    until: Option<String>,
    /// The same.
    to: Option<String>,
    /// `execution` or `charge`: what was spent; `credit`: what was added.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// How many at most: 0 to 100, 50 if absent.
    limit: Option<i64>,
    /// How many to leave out.
    offset: Option<i64>,
}

impl RecordsQuery {
    fn range(&self) -> Result<Range> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let from = given(&self.since).or_else(|| given(&self.from));
        let until = given(&self.until).or_else(|| given(&self.to));
        Ok(Range {
            from: from.map(|text| moment("since", &text, false)).transpose()?,
            until: until.map(|text| moment("until", &text, true)).transpose()?,
        })
    }

    fn is_top_up(&self) -> Result<Option<bool>> {
        match self.kind.as_deref() {
            None | Some("") => Ok(None),
            Some("execution" | "charge") => Ok(Some(false)),
            Some("credit") => Ok(Some(true)),
            Some(_) => Err(Error::invalid_field("type", "must be execution, charge or credit")),
        }
    }
}

/// What was spent on a run or a call, or added to the budget.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BillingRecord)]
struct RecordView {
    id: String,
    user_id: String,
    organization_id: String,
    thread_id: Option<String>,
    run_id: Option<String>,
    /// `charge` or `credit`.
    #[schema(example = "charge")]
    record_type: &'static str,
    /// `execution` or `credit`.
    #[schema(example = "execution")]
    #[serde(rename = "type")]
    kind: &'static str,
    /// US dollars.
    amount: f64,
    amount_usd: f64,
    /// What it cost; 0 for a credit.
    cost_usd: f64,
    description: Option<String>,
    created_at: Timestamp,
}

impl RecordView {
    fn new(caller: &Caller, record: Record) -> Self {
        let amount = record.amount.as_usd();
        let (record_type, kind) = if record.is_top_up { ("credit", "credit") } else { ("charge", "execution") };
        Self {
            id: record.id,
            user_id: caller.project.to_string(),
            organization_id: caller.organization.to_string(),
            thread_id: record.thread_id.map(Into::into),
            run_id: record.run_id,
            record_type,
            kind,
            amount,
            amount_usd: amount,
            cost_usd: if record.is_top_up { 0.0 } else { amount },
            description: record.description.or_else(|| (!record.is_top_up).then(|| record.kind.replace('_', " "))),
            created_at: record.at.into(),
        }
    }
}

/// List what was spent and added
///
/// Newest first: a line for each run, for each model call beside runs (side questions, titles), for each top-up.
#[utoipa::path(get, path = "/billing/records", tag = "costs", params(RecordsQuery),
    responses((status = 200, description = "A part of the list", body = List<RecordView>)))]
async fn list_records(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<RecordsQuery>,
) -> Result<Json<List<RecordView>>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let records = api.store.list_records(&caller.project, query.range()?, query.is_top_up()?, page).await?;
    Ok(Json(List::new(records, page, |record| RecordView::new(&caller, record))))
}

/// Which part of the list it is.
#[derive(Debug, Serialize, ToSchema)]
struct Pagination {
    total: i64,
    limit: i64,
    offset: i64,
}

/// The same as records, in the envelope of older clients.
#[derive(Debug, Serialize, ToSchema)]
struct Transactions {
    transactions: Vec<RecordView>,
    pagination: Pagination,
}

/// List what was spent and added, for older clients
#[utoipa::path(get, path = "/billing/transactions", tag = "costs", params(RecordsQuery),
    responses((status = 200, description = "A part of the list", body = Transactions)))]
async fn list_transactions(
    State(api): State<Api>,
    caller: Caller,
    Query(query): Query<RecordsQuery>,
) -> Result<Json<Transactions>> {
    let page = query::page(query.limit, query.offset, 50, 100)?;
    let records = api.store.list_records(&caller.project, query.range()?, query.is_top_up()?, page).await?;
    let pagination = Pagination { total: records.total, limit: page.limit, offset: page.offset };
    let transactions = records.items.into_iter().map(|record| RecordView::new(&caller, record)).collect();
    Ok(Json(Transactions { transactions, pagination }))
}
