//! Steps: what the calls of a turn did to the files of the environment.
//!
//! Taking a snapshot must not make a call longer. So it is taken after the calls, beside the next request to the model, and
//! waited for only before the next calls begin or the run ends. The first one of a run, which tells what was there before,
//! is taken as soon as the model begins to write down a call that may change files; a run without such calls takes none.
//! History is a service to the user and not part of the run's success: what fails here is a line in the log.

use std::{collections::BTreeSet, sync::Arc};

use claude::ToolUse;
use domain::{
    EnvironmentId, WorkspacePath,
    change::{Author, Source},
    event::LogLevel,
    run::Run,
};
use ledger::{Ledger, Working, Writer};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::task::JoinHandle;

use crate::{
    drive::Driver,
    error::End,
    tools::{self, redact::Redactor},
};

/// The longest title of a step, in characters.
const MAX_TITLE_CHARS: usize = 200;

/// The steps of one run.
pub(crate) struct Steps {
    ledger: Ledger,
    environment: EnvironmentId,
    author: Author,
    /// Knows what no title may show.
    redactor: Arc<Redactor>,
    /// Whether it is known what was there before the run's first calls.
    has_base: bool,
    /// Calls that were broken off: their processes may still write.
    held: Option<Working>,
    pending: Option<JoinHandle<Result<(), ledger::Error>>>,
}

impl Steps {
    pub(crate) fn new(ledger: Ledger, run: &Run) -> Self {
        let author = Author {
            source: Source::Run,
            thread_id: Some(run.thread_id.clone()),
            run_id: Some(run.id.clone()),
            message_id: run.message_id.clone(),
            agent_id: run.agent_id.clone(),
            key_id: None,
        };
        let environment = run.environment_id.clone();
        Self { ledger, environment, author, redactor: Arc::default(), has_base: false, held: None, pending: None }
    }

    /// Has the run's secrets taken out of the titles of its steps.
    pub(crate) fn hide(&mut self, redactor: Arc<Redactor>) {
        self.redactor = redactor;
    }

    /// The model is about to call a tool.
    pub(crate) fn expect(&mut self, tool: &str) {
        if !self.has_base && tools::changes_files(tool) {
            self.has_base = true;
            self.capture(None);
        }
    }

    /// An earlier attempt was cut off while it made calls: what changed since the last snapshot was done by this run.
    pub(crate) fn note_interrupted(&mut self) {
        self.has_base = true;
        let title = "Before the run was interrupted".to_owned();
        let writer = Writer { author: self.author.clone(), title, named: BTreeSet::new(), may_write_all: true };
        let working = self.begin_writing(writer);
        self.capture(Some(working));
    }

    /// Tells that calls begin, if any of them may change files, once what was before them is written down.
    async fn begin<'a>(&mut self, calls: impl Iterator<Item = (&'a str, Option<&'a RawValue>)>) -> Begun {
        let calls: Vec<_> = calls.filter(|(tool, _)| tools::changes_files(tool)).collect();
        let Some((first, _)) = calls.first() else { return Begun::default() };
        self.expect(first);
        let problem = self.settle().await;
        let working = self.begin_writing(writer(self.author.clone(), &calls, &self.redactor));
        Begun { working: Some(working), problem }
    }

    fn begin_writing(&self, writer: Writer) -> Working {
        self.ledger.begin(&self.environment, writer)
    }

    fn capture(&mut self, working: Option<Working>) {
        drop(working);
        let (ledger, environment) = (self.ledger.clone(), self.environment.clone());
        // Its own task: whatever becomes of the run, what it did is written down.
        self.pending = Some(tokio::spawn(async move { ledger.capture(&environment).await.map(drop) }));
    }

    /// Waits for the snapshot that is being taken. Gives why there is none.
    async fn settle(&mut self) -> Option<String> {
        let err = match self.pending.take()?.await {
            Ok(Ok(())) => return None,
            Ok(Err(err)) => err,
            Err(err) => ledger::Error::CutOff(err),
        };
        tracing::warn!(error = &err as &dyn std::error::Error, "cannot take a snapshot");
        Some("The files could not be put into a snapshot, so this step cannot be shown or undone.".to_owned())
    }
}

/// Calls that have begun, as far as files are concerned.
#[derive(Default)]
pub(crate) struct Begun {
    working: Option<Working>,
    problem: Option<String>,
}

impl Driver<'_> {
    /// Before calls are made.
    pub(crate) async fn begin_step<'a>(
        &mut self,
        calls: impl Iterator<Item = (&'a str, Option<&'a RawValue>)>,
    ) -> Result<Begun, End> {
        let mut begun = self.steps.begin(calls).await;
        self.tell_problem(begun.problem.take()).await?;
        Ok(begun)
    }

    /// After they were made, or broken off.
    pub(crate) fn end_step(&mut self, begun: Begun, is_broken_off: bool) {
        match begun.working {
            Some(working) if is_broken_off => self.steps.held = Some(working),
            Some(working) => self.steps.capture(Some(working)),
            None => {}
        }
    }

    /// Before the run is told as over.
    pub(crate) async fn close_steps(&mut self) -> Result<(), End> {
        if let Some(working) = self.steps.held.take() {
            // The one before it is about what was there before.
            let problem = self.steps.settle().await;
            self.tell_problem(problem).await?;
            self.steps.capture(Some(working));
        }
        let problem = self.steps.settle().await;
        self.tell_problem(problem).await
    }

    async fn tell_problem(&mut self, problem: Option<String>) -> Result<(), End> {
        match problem {
            Some(problem) => self.log(LogLevel::Warning, "history", problem).await,
            None => Ok(()),
        }
    }
}

/// The calls of a reply as [`Driver::begin_step`] takes them.
pub(crate) fn of_reply(calls: &[ToolUse]) -> impl Iterator<Item = (&str, Option<&RawValue>)> {
    calls.iter().map(|call| (call.name.as_str(), call.input.as_deref().ok()))
}

/// What calls say of themselves.
#[derive(Debug, Default, Deserialize)]
struct Input {
    file_path: Option<String>,
    command: Option<String>,
    description: Option<String>,
}

/// Says what the calls may write, and what their step is called.
fn writer(author: Author, calls: &[(&str, Option<&RawValue>)], redactor: &Redactor) -> Writer {
    let (mut named, mut may_write_all, mut title) = (BTreeSet::new(), false, None);
    for (tool, input) in calls {
        let input: Input = input.and_then(|input| serde_json::from_str(input.get()).ok()).unwrap_or_default();
        let path = input.file_path.as_deref().and_then(|path| WorkspacePath::parse(path).ok());
        match path {
            Some(path) if tools::writes_one_file(tool) => {
                title.get_or_insert_with(|| format!("{tool}: {path}"));
                named.insert(path);
            }
            _ => {
                may_write_all = true;
                let about = input.description.or(input.command).unwrap_or_default();
                let about = about.lines().next().unwrap_or_default();
                title.get_or_insert_with(|| {
                    if about.is_empty() { (*tool).to_owned() } else { format!("{tool}: {about}") }
                });
            }
        }
    }
    // Before it is cut, which could leave a half of a secret.
    let mut title: String = redactor.redact(title.unwrap_or_default()).chars().take(MAX_TITLE_CHARS).collect();
    match calls.len() {
        0 | 1 => {}
        many => title.push_str(&format!(" and {} more", many - 1)),
    }
    Writer { author, title, named, may_write_all }
}

#[cfg(test)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn calls_say_what_they_write_and_what_their_step_is_called() {
        let json = |value| to_raw_value(&value).expect("JSON");
        let write = json(serde_json::json!({"file_path": "/workspace/src/a.py", "content": ""}));
        let bash = json(serde_json::json!({"command": "make\nmake test", "timeout": 5}));
        let told = |calls: &[(&str, Option<&RawValue>)]| {
            let writer = writer(Author::OUTSIDE, calls, &Redactor::new(["s3cret-value"]));
            let named: Vec<_> = writer.named.iter().map(|path| path.as_str().to_owned()).collect();
            (writer.title, named, writer.may_write_all)
        };
        assert_eq!(
            told(&[("Write", Some(&write))]),
            ("Write: src/a.py".to_owned(), vec!["src/a.py".to_owned()], false)
        );
        assert_eq!(told(&[("Bash", Some(&bash))]), ("Bash: make".to_owned(), vec![], true));
        let both = told(&[("Edit", Some(&write)), ("Bash", Some(&bash))]);
        assert_eq!(both, ("Edit: src/a.py and 1 more".to_owned(), vec!["src/a.py".to_owned()], true));
        let secret = json(serde_json::json!({"command": format!("{}s3cret-value", "x".repeat(190))}));
        assert_eq!(told(&[("Bash", Some(&secret))]).0, format!("Bash: {}[red", "x".repeat(190)));
        assert_eq!(told(&[("Write", None)]), ("Write".to_owned(), vec![], true));
    }
}
