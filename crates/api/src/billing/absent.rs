//! What the hosted service has and this server does not: plans, payments, endpoints for inference.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{Api, Error, Result, error::ErrorBody, path::Path};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list_top_up_options))
        .routes(routes!(payment_status))
        .routes(routes!(check_out))
        .routes(routes!(get_absent, post_absent, patch_absent, delete_absent))
}

/// What can be bought: nothing.
#[derive(Debug, Serialize, ToSchema)]
struct TopUpOptions {
    /// Always empty: add what you like with `POST /billing/budget/increase`.
    #[schema(value_type = Vec<Object>)]
    options: [(); 0],
}

/// List top-ups that can be bought
///
/// None: a budget is raised with `POST /billing/budget/increase`.
#[utoipa::path(get, path = "/budget/topup-options", tag = "costs",
    responses((status = 200, description = "None", body = TopUpOptions)))]
async fn list_top_up_options() -> Json<TopUpOptions> {
    Json(TopUpOptions { options: [] })
}

/// Whether somebody can pay here.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PaymentStatus {
    /// Always false.
    configured: bool,
    pending_payments: u32,
}

/// Tell whether payments are possible
#[utoipa::path(get, path = "/budget/payment-status", tag = "costs",
    responses((status = 200, description = "They are not", body = PaymentStatus)))]
async fn payment_status() -> Json<PaymentStatus> {
    Json(PaymentStatus { configured: false, pending_payments: 0 })
}

/// Pay for a top-up
///
/// Not possible: this server takes no money.
#[utoipa::path(post, path = "/budget/checkout", tag = "costs",
    responses((status = 501, description = "This server takes no money", body = ErrorBody)))]
async fn check_out() -> Result<()> {
    Err(not_here("/budget/checkout"))
}

fn not_here(path: &str) -> Error {
    let message = format!("{path} is a part of the hosted service: this server has no plans and takes no money");
    Error::not_implemented(message)
}

/// Read about plans and payments
///
/// Not supported, as everything below `/billing` that is not listed by itself.
#[utoipa::path(get, path = "/billing/{*rest}", tag = "costs",
    params(("rest" = String, Path, description = "Whatever follows")),
    responses((status = 501, description = "There are none", body = ErrorBody)))]
async fn get_absent(Path(rest): Path<String>) -> Result<()> {
    Err(not_here(&format!("/billing/{rest}")))
}

/// Make plans and payments
///
/// Not supported.
#[utoipa::path(post, path = "/billing/{*rest}", tag = "costs",
    params(("rest" = String, Path, description = "Whatever follows")),
    responses((status = 501, description = "There are none", body = ErrorBody)))]
async fn post_absent(Path(rest): Path<String>) -> Result<()> {
    Err(not_here(&format!("/billing/{rest}")))
}

/// Change plans and payments
///
/// Not supported.
#[utoipa::path(patch, path = "/billing/{*rest}", tag = "costs",
    params(("rest" = String, Path, description = "Whatever follows")),
    responses((status = 501, description = "There are none", body = ErrorBody)))]
async fn patch_absent(Path(rest): Path<String>) -> Result<()> {
    Err(not_here(&format!("/billing/{rest}")))
}

/// Delete plans and payments
///
/// Not supported.
#[utoipa::path(delete, path = "/billing/{*rest}", tag = "costs",
    params(("rest" = String, Path, description = "Whatever follows")),
    responses((status = 501, description = "There are none", body = ErrorBody)))]
async fn delete_absent(Path(rest): Path<String>) -> Result<()> {
    Err(not_here(&format!("/billing/{rest}")))
}
