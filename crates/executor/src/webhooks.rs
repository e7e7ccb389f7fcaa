//! Sends what webhooks are told, signed as Standard Webhooks say it.
//!
//! The store decides which of several servers sends one, and keeps what was not taken. Requests go out through the guard of
//! WebFetch: to public addresses and those that the operator names, without following redirects, and nothing of an answer
//! is read but its status.

use std::{error::Error as StdError, sync::Arc, time::Duration};

use chrono::Utc;
use domain::{address::Network, signature, webhook};
use reqwest::{StatusCode, Url, header};
use secrecy::ExposeSecret;
use store::webhooks::{Due, Tried};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{drive::Parts, tools::web::Guarded};

/// How late something is told at most, as long as nothing stands in the way.
const TICK: Duration = Duration::from_secs(1);

/// How much longer than a try may take a delivery is held, so that its result can be written.
const SLACK: Duration = Duration::from_secs(15);

/// The longest reason that is kept.
const MAX_REASON: usize = 500;

/// How webhooks are sent.
#[derive(Debug, Clone)]
pub struct Options {
    /// Requests under way at once from this process.
    pub concurrent: usize,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// The pause after the first try; each is twice as long as the one before, up to an hour.
    pub first_pause: Duration,
    /// How long it is tried to tell of something.
    pub patience: Duration,
    /// Networks that may be reached although they are not public.
    pub allowed: Vec<Network>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrent: 16,
            timeout: Duration::from_secs(15),
            first_pause: Duration::from_secs(5),
            patience: Duration::from_secs(24 * 60 * 60),
            allowed: Vec::new(),
        }
    }
}

/// Works until `soft` is cancelled, and then lets what is under way come to its end.
pub(crate) async fn work(parts: &Arc<Parts>, soft: &CancellationToken) {
    let options = &parts.options.webhooks;
    let client = match parts.web.for_webhooks(&options.allowed) {
        Ok(client) => Arc::new(client),
        Err(err) => {
            tracing::error!(error = &err as &dyn StdError, "webhooks cannot be sent");
            return soft.cancelled().await;
        }
    };
    // Tasks: a future that nobody polls while more is claimed would keep its connection to the database from that.
    let mut sending = JoinSet::new();
    while !soft.is_cancelled() {
        let room = options.concurrent.saturating_sub(sending.len());
        if room > 0 {
            match parts.store.claim_deliveries(room, options.timeout + SLACK).await {
                Ok(due) => due.into_iter().for_each(|due| {
                    let (parts, client) = (parts.clone(), client.clone());
                    sending.spawn(async move { deliver(&parts, &client, due).await });
                }),
                Err(err) => {
                    tracing::warn!(error = &err as &dyn StdError, "cannot look for deliveries, trying again");
                }
            }
        }
        tokio::select! {
            () = soft.cancelled() => {}
            Some(_) = sending.join_next() => {}
            () = tokio::time::sleep(TICK) => {}
        }
    }
    // Who hangs now is tried again by another server.
    let ends = async { while sending.join_next().await.is_some() {} };
    if tokio::time::timeout(SLACK / 3, ends).await.is_err() {
        tracing::info!("left deliveries to others, as their receivers do not answer");
    }
}

/// Tries once, and writes down what came of it.
async fn deliver(parts: &Parts, client: &Guarded, due: Due) {
    let options = &parts.options.webhooks;
    let pause = webhook::pause(due.attempt, options.first_pause, spread(&due));
    let tried = match send(client, &due, options.timeout).await {
        Ok(status) if status.is_success() => {
            Tried { status: Some(status.as_u16()), error: None, is_gone: false, pause }
        }
        Ok(status) => Tried {
            status: Some(status.as_u16()),
            error: Some(reason(status)),
            is_gone: status == StatusCode::GONE,
            pause,
        },
        Err(why) => Tried { status: None, error: Some(why), is_gone: false, pause },
    };
    tracing::debug!(delivery = %due.id, attempt = due.attempt, status = tried.status, error = tried.error, "told a webhook");
    let result = if tried.error.is_none() { "delivered" } else { "refused" };
    metrics::counter!("atelier_webhook_deliveries_total", "result" => result).increment(1);
    if let Err(err) = parts.store.record_delivery(&due, &tried, options.patience).await {
        let error = &err as &dyn StdError;
        tracing::warn!(error, delivery = %due.id, "cannot write down what came of a delivery; it will be sent again");
    }
}

/// Sends one, and gives the answer's status.
async fn send(client: &Guarded, due: &Due, limit: Duration) -> Result<StatusCode, String> {
    let url = Url::parse(&due.url).map_err(|err| format!("the URL is not valid: {err}"))?;
    client.check(&url)?;
    let timestamp = Utc::now().timestamp();
    let id = due.id.as_str();
    let sign =
        |secret: &secrecy::SecretString| signature::sign(secret.expose_secret(), id, timestamp, due.payload.as_bytes());
    let signatures: Vec<_> = due.secrets.iter().map(sign).collect();
    let request = client
        .http()
        .post(url)
        .timeout(limit)
        .header(header::CONTENT_TYPE, "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", timestamp)
        .header("webhook-signature", signatures.join(" "))
        .body(due.payload.clone());
    match request.send().await {
        Ok(response) => Ok(response.status()),
        Err(err) => Err(root(&err)),
    }
}

fn reason(status: StatusCode) -> String {
    let what = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    format!("the receiver answered {status}{what}")
}

/// Gives what an error comes from, in its own words: the URL with what may be in it is known already.
fn root(err: &reqwest::Error) -> String {
    if err.is_timeout() {
        return "the receiver did not answer in time".to_owned();
    }
    let mut cause: &dyn StdError = err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().take(MAX_REASON).collect()
}

/// Gives a number from 0 to 1 that differs from delivery to delivery and from try to try.
fn spread(due: &Due) -> f64 {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one((due.id.as_str(), due.attempt));
    (random >> 11) as f64 / (1_u64 << 53) as f64
}
