//! Checking fields of a body: all that is wrong is told at once.

use crate::{Error, Result, body::Patch, error::FieldError};

/// What was found wrong with the fields of a request.
#[derive(Debug, Default)]
pub(crate) struct Fields(Vec<FieldError>);

/// The verdict on a value: `Err` says what it must be.
pub(crate) type Verdict = std::result::Result<(), String>;

impl Fields {
    pub(crate) fn refuse(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    pub(crate) fn check(&mut self, field: &str, verdict: Verdict) {
        if let Err(message) = verdict {
            self.refuse(field, message);
        }
    }

    /// Checks a field of a PATCH that cannot be cleared.
    pub(crate) fn check_patch<T>(&mut self, field: &str, patch: &Patch<T>, check: impl FnOnce(&T) -> Verdict) {
        match patch {
            Patch::Absent => {}
            Patch::Null => self.refuse(field, "must not be null"),
            Patch::Value(value) => self.check(field, check(value)),
        }
    }

    /// Gives an error if anything was wrong.
    pub(crate) fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid(self.0)) }
    }
}

/// A name: 1 to 255 characters, not only blanks.
pub(crate) fn name(name: &str) -> Verdict {
    match name.chars().count() {
        0 => Err("must not be empty".into()),
        1..=255 if name.trim().is_empty() => Err("must not be blank".into()),
        1..=255 => Ok(()),
        _ => Err("must have at most 255 characters".into()),
    }
}
