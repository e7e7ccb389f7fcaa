//! Who makes a request: the key, the project it opens, and how often it may be used.
//!
//! A wrong key is counted against its address and never against the right keys that come from there: behind a proxy all
//! clients share an address, and one misconfigured client must not lock out the others. Guessing gains nothing by that,
//! since a key has 256 random bits; what does not even look like one is refused without asking the database.
//!
//! A key opens one project. One with the scope `admin` opens every project of its organization: its own where the request
//! names none.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::{
    ApiKeyId, OrganizationId, ProjectId,
    key::KeyKind,
    scope::{Scope, Scopes},
};
use secrecy::SecretString;

use crate::{Api, Error, Result, limits::Limits, rates::Rates};

/// The longest key that is looked up.
const MAX_KEY_BYTES: usize = 512;

/// Says for which organization a request is meant; the key's own if absent.
const ORGANIZATION: &str = "x-computer-agents-organization";
/// Says for which of the organization's projects a request with an admin's key is meant; the key's own if absent.
const PROJECT: &str = "x-computer-agents-project";

/// Who makes the request. Every authenticated handler can ask for it.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub organization: OrganizationId,
    pub project: ProjectId,
    /// Of the project.
    pub tier: Option<String>,
    pub key: ApiKeyId,
    pub kind: KeyKind,
    pub scopes: Scopes,
}

impl Caller {
    /// Tells whether the caller may look beyond its project.
    pub(crate) fn is_admin(&self) -> bool {
        self.scopes.include(Scope::Admin)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        parts.extensions.get().cloned().ok_or_else(|| Error::internal("a route that needs a caller is not behind auth"))
    }
}

/// Lets a request pass that has a valid key with requests left.
pub(crate) async fn authenticate(
    State((api, limits, rates)): State<(Api, Arc<Limits>, Arc<Rates>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
    let caller = match identify(&api, &limits, request.headers(), address).await {
        Ok(caller) => caller,
        Err(err) => return err.into_response(),
    };
    tracing::Span::current().record("project", caller.project.as_str());
    let key = caller.key.clone();
    let standing = match rates.count(&api.store, &caller).await {
        Ok(standing) => standing,
        Err(err) => return err.into_response(),
    };
    let mut response = match &standing {
        Ok(_) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(exhausted) => exhausted.error().into_response(),
    };
    match standing {
        Ok(standing) => standing.write(response.headers_mut()),
        Err(exhausted) => exhausted.write(response.headers_mut()),
    }
    api.uses.count(&api.store, &key, response.status().as_u16() >= 400);
    response
}

async fn identify(api: &Api, limits: &Limits, headers: &HeaderMap, address: IpAddr) -> Result<Caller> {
    let refused = |message: &'static str| {
        limits.count_failure(address)?;
        Err(Error::new(StatusCode::UNAUTHORIZED, message))
    };
    let key = match find_key(headers) {
        Ok(Some(key)) => key,
        Ok(None) => {
            let message = "Missing API key: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'";
            return Err(Error::new(StatusCode::UNAUTHORIZED, message));
        }
        Err(message) => return refused(message),
    };
    let Some(found) = api.store.find_caller(&key).await? else { return refused("Invalid or missing API key") };
    let mut caller = Caller {
        organization: found.organization_id,
        project: found.project_id,
        tier: found.tier,
        key: found.key_id,
        kind: found.kind,
        scopes: found.scopes,
    };
    let refused = |message: &'static str| Err(Error::new(StatusCode::FORBIDDEN, message));
    if let Some(named) = headers.get(ORGANIZATION) {
        // Those that came before organizations call a project by this name.
        if ![caller.organization.as_str(), caller.project.as_str()].iter().any(|own| named.as_bytes() == own.as_bytes())
        {
            return refused("The API key does not open the organization that was named");
        }
    }
    if let Some(named) = headers.get(PROJECT) {
        let message = "The API key does not open the project that was named";
        let named = named.to_str().ok().and_then(|named| named.parse::<ProjectId>().ok());
        match named {
            Some(named) if named == caller.project => {}
            Some(named) if caller.is_admin() => match api.store.find_project(&caller.organization, &named).await? {
                Some(project) => (caller.project, caller.tier) = (project.id, project.tier),
                None => return refused(message),
            },
            Some(_) | None => return refused(message),
        }
    }
    Ok(caller)
}

/// Finds the key among the headers. `Err` says why what is there cannot be one.
fn find_key(headers: &HeaderMap) -> std::result::Result<Option<SecretString>, &'static str> {
    let malformed = "The API key is malformed";
    let key = match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let value = value.to_str().map_err(|_| malformed)?;
            let (scheme, key) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
            if !scheme.eq_ignore_ascii_case("bearer") {
                return Err("The Authorization header must be 'Bearer KEY'");
            }
            key
        }
        None => match headers.get("x-api-key") {
            Some(value) => value.to_str().map_err(|_| malformed)?,
            None => return Ok(None),
        },
    };
    match key.trim() {
        "" => Ok(None),
        key if key.len() > MAX_KEY_BYTES => Err(malformed),
        key => Ok(Some(SecretString::from(key))),
    }
}
