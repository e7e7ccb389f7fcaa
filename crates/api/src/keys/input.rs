//! What a key is made from, and how it is changed.

use chrono::{DateTime, Duration, Utc};
use domain::{
    ProjectId,
    key::{ApiKey, KeyKind},
    scope::{Scope, Scopes},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use store::keys::NewKey;
use utoipa::ToSchema;

use crate::{
    Error, Result,
    auth::Caller,
    body::Patch,
    check::{self, Fields},
};

/// Longer ones do not fit the calendar.
const MAX_DAYS: f64 = 36_500.0;

const PREFIX: &str = "tb_";

/// A new key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateKey {
    #[schema(example = "laptop")]
    name: String,
    description: Option<String>,
    /// What the key may do; everything in its project if absent. It cannot have more than the key that makes it.
    #[schema(example = json!(["threads:write", "execute"]))]
    scopes: Option<Vec<String>>,
    /// The same as `scopes`, in older clients.
    permissions: Option<Vec<String>>,
    /// Days until it ends by itself.
    #[serde(alias = "expires_in")]
    expires_in: Option<f64>,
    /// When it ends by itself (RFC 3339).
    #[serde(alias = "expires_at")]
    expires_at: Option<String>,
    /// `standard` if absent. `internal`, for which budgets do not hold, is made by administrators only.
    #[serde(alias = "key_type")]
    key_type: Option<String>,
    /// Only `tb_`.
    prefix: Option<String>,
    /// Whose it is. Who is not known yet is a user from then on.
    #[serde(alias = "user_id")]
    user_id: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    /// The project that it opens; only administrators may name another than their own.
    #[serde(alias = "project_id")]
    project_id: Option<String>,
}

/// A change of a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpdateKey {
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    scopes: Patch<Vec<String>>,
    /// RFC 3339; `null`: it does not end by itself.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    expires_at: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Patch<Map<String, Value>>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    user_id: Patch<String>,
    /// `false` revokes the key, `true` takes that back.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    is_active: Patch<bool>,
}

impl CreateKey {
    /// Gives the key to be made, and the project that it is to open where that is said.
    ///
    /// # Errors
    /// 400 for fields that are not acceptable; 403 for scopes that the caller does not have itself.
    pub(crate) fn into_new(self, caller: &Caller, now: DateTime<Utc>) -> Result<(NewKey, Option<ProjectId>)> {
        let mut fields = Fields::default();
        fields.check("name", check::name(&self.name));
        if self.prefix.is_some_and(|prefix| prefix != PREFIX) {
            fields.refuse("prefix", format!("must be {PREFIX}"));
        }
        if let Some(user) = &self.user_id {
            fields.check("userId", check::name(user));
        }
        let kind = match self.key_type.as_deref().map(str::parse) {
            None => KeyKind::Standard,
            Some(Ok(kind)) => kind,
            Some(Err(_)) => {
                fields.refuse("keyType", "must be standard or internal");
                KeyKind::Standard
            }
        };
        let scopes = match self.scopes.or(self.permissions) {
            None => Scopes::all(),
            Some(words) => read_scopes(&mut fields, &words),
        };
        let expires_at = match (self.expires_at, self.expires_in) {
            (Some(text), _) => read_end(&mut fields, &text, now),
            (None, Some(days)) if days > 0.0 && days <= MAX_DAYS => {
                // Whole seconds of a number of days that is in range.
                Some(now + Duration::seconds((days * 86_400.0).ceil() as i64))
            }
            (None, Some(_)) => {
                fields.refuse("expiresIn", format!("must be above 0 and at most {MAX_DAYS} days"));
                None
            }
            (None, None) => None,
        };
        let project = match self.project_id.as_deref().map(str::parse::<ProjectId>) {
            None => None,
            Some(Ok(project)) => Some(project),
            Some(Err(err)) => {
                fields.refuse("projectId", err.to_string());
                None
            }
        };
        fields.finish()?;
        check_given(caller, &scopes)?;
        if kind == KeyKind::Internal || project.as_ref().is_some_and(|project| *project != caller.project) {
            caller.require(Scope::Admin)?;
        }
        let new = NewKey {
            name: self.name,
            description: self.description,
            kind,
            scopes,
            user_id: self.user_id,
            metadata: self.metadata,
            expires_at,
            created_by: Some(caller.key.clone()),
        };
        Ok((new, project))
    }
}

impl UpdateKey {
    pub(crate) fn apply(self, key: &mut ApiKey, caller: &Caller, now: DateTime<Utc>) -> Result<()> {
        let mut fields = Fields::default();
        fields.check_patch("name", &self.name, |name| check::name(name));
        if let Patch::Value(user) = &self.user_id {
            fields.check("userId", check::name(user));
        }
        match self.scopes {
            Patch::Absent => {}
            Patch::Null => fields.refuse("scopes", "must not be null"),
            Patch::Value(words) => key.scopes = read_scopes(&mut fields, &words),
        }
        match self.expires_at {
            Patch::Absent => {}
            Patch::Null => key.expires_at = None,
            Patch::Value(text) => key.expires_at = read_end(&mut fields, &text, now),
        }
        match self.is_active {
            Patch::Absent => {}
            Patch::Null => fields.refuse("isActive", "must not be null"),
            Patch::Value(true) => key.revoked_at = None,
            Patch::Value(false) => drop(key.revoked_at.get_or_insert(now)),
        }
        fields.finish()?;
        check_given(caller, &key.scopes)?;
        if let Patch::Value(name) = self.name {
            key.name = name;
        }
        self.description.apply(&mut key.description);
        self.metadata.apply(&mut key.metadata);
        self.user_id.apply(&mut key.user_id);
        Ok(())
    }
}

fn read_scopes(fields: &mut Fields, words: &[String]) -> Scopes {
    match Scopes::parse(words.iter().map(String::as_str)) {
        Ok(scopes) if !scopes.is_empty() => scopes,
        Ok(scopes) => {
            fields.refuse("scopes", "must not be empty");
            scopes
        }
        Err(err) => {
            let known: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            fields.refuse("scopes", format!("'{}' is none of {}", err.0, known.join(", ")));
            Scopes::new([])
        }
    }
}

fn read_end(fields: &mut Fields, text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match DateTime::parse_from_rfc3339(text).map(|end| end.to_utc()) {
        Ok(end) if end > now && (end - now).num_days() as f64 <= MAX_DAYS => Some(end),
        Ok(_) => {
            fields.refuse("expiresAt", "must be later than now, and within 100 years");
            None
        }
        Err(_) => {
            fields.refuse("expiresAt", "must be a time like 2027-01-15T10:30:00Z");
            None
        }
    }
}

/// A key gives away, and takes away, no more than it has.
pub(super) fn check_given(caller: &Caller, scopes: &Scopes) -> Result<()> {
    match caller.scopes.missing_from(scopes) {
        None => Ok(()),
        Some(scope) => {
            let message = format!("A key cannot give or take what it does not have itself: the scope '{scope}'");
            Err(Error::new(axum::http::StatusCode::FORBIDDEN, message).with_code("insufficient_scope"))
        }
    }
}
