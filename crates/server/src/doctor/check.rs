//! One thing that was looked at, and how it is shown.

/// What was found, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    grade: Grade,
    name: &'static str,
    found: String,
    mend: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { grade: Grade::Ok, name, found: found.into(), mend: String::new() }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { grade: Grade::Warn, name, found: found.into(), mend: mend.into() }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { grade: Grade::Fail, name, found: found.into(), mend: mend.into() }
    }

    pub(super) fn is_failure(&self) -> bool {
        self.grade == Grade::Fail
    }
}

/// Writes one line for each.
pub(super) fn show(checks: &[Check], is_terminal: bool) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    checks
        .iter()
        .map(|check| {
            let (word, colour) = match check.grade {
                Grade::Ok => ("ok  ", "\x1b[32m"),
                Grade::Warn => ("warn", "\x1b[33m"),
                Grade::Fail => ("FAIL", "\x1b[31m"),
            };
            let word = if is_terminal { format!("{colour}{word}\x1b[0m") } else { word.to_owned() };
            let mend = if check.mend.is_empty() { String::new() } else { format!(" -> {}", check.mend) };
            // Texts of others may hold anything.
            let found: String =
                check.found.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
            format!("{word}  {:width$}  {found}{mend}\n", check.name)
        })
        .collect()
}
