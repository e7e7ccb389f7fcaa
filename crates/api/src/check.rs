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

/// The longest value of a variable: what Linux takes in one string of a process's environment.
const MAX_VALUE_BYTES: usize = 128 * 1024 - 256;
/// Linux takes 2 MiB of variables and arguments in all.
const MAX_VARIABLES_BYTES: usize = 1024 * 1024;
const MAX_VARIABLES: usize = 1000;

/// Environment variables, each with the size of its value. `at` names the field of one.
pub(crate) fn variables_at(
    fields: &mut Fields,
    field: &str,
    variables: &[(&str, usize)],
    at: impl Fn(usize, &str) -> String,
) {
    if variables.len() > MAX_VARIABLES {
        return fields.refuse(field, format!("must have at most {MAX_VARIABLES} items"));
    }
    for (index, (key, value_bytes)) in variables.iter().enumerate() {
        if !domain::environment::is_variable_name(key) {
            let message = "must be letters, digits and '_', not start with a digit, and have at most 255 characters";
            fields.refuse(at(index, "key"), message);
        } else if variables[..index].iter().any(|(before, _)| before == key) {
            fields.refuse(at(index, "key"), format!("'{key}' is there twice"));
        }
        if *value_bytes > MAX_VALUE_BYTES {
            fields.refuse(at(index, "value"), format!("must have at most {MAX_VALUE_BYTES} bytes"));
        }
    }
    if variables.iter().map(|(key, value_bytes)| key.len() + value_bytes).sum::<usize>() > MAX_VARIABLES_BYTES {
        fields.refuse(field, format!("must have at most {MAX_VARIABLES_BYTES} bytes in all"));
    }
}

/// An array of environment variables.
pub(crate) fn variables(fields: &mut Fields, field: &str, variables: Vec<(&str, usize)>) {
    variables_at(fields, field, &variables, |index, part| format!("{field}[{index}].{part}"));
}
