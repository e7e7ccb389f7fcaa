//! What the calls of one run share: the way to its computer, and what they remember of it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::skill::{Skill, SkillFile};
use sandbox::{Error, FileContent, Sandbox, Sandboxes, Spec, Workspace, Written};
use tokio::time::Instant;

use super::{
    ToolError, for_model,
    image::Images,
    redact::Redactor,
    skill::{self, Library},
    web,
};

/// Where a run begins to work.
pub(super) const WORKSPACE: &str = "/workspace";

/// Images and documents one run may read, in bytes. Each stays in every later request, and a request has 32 MB.
const MAX_MEDIA_BYTES: u64 = 20 * 1024 * 1024;

/// How long an engine may not answer before a run fails for it: a restart, with an update, takes less.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// What a model is told when the container ended under a call that may have had an effect.
const RESTARTED: &str = "The computer was restarted while this call ran. Processes that ran there are gone; files are \
                         kept. Whether the call had an effect is unknown: look before you repeat it.";

/// The state of one run's tools. Shared by its calls.
pub struct Context {
    sandboxes: Sandboxes,
    spec: Spec,
    pub(crate) group: String,
    pub(crate) env: Vec<(String, String)>,
    pub(super) redactor: Arc<Redactor>,
    pub(crate) web: web::Client,
    pub(super) pages: web::Cache,
    pub(super) skills: Option<Library>,
    pub(super) search: Option<web::search::Search>,
    pub(super) images: Option<Images>,
    searches: AtomicU32,
    cwd: Mutex<String>,
    seen: Mutex<HashMap<String, Seen>>,
    media_bytes: AtomicU64,
}

/// How a file was when the model last saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub modified_ms: i64,
    pub size: u64,
    /// Of the whole content; `None` when only a part was read.
    pub hash: Option<u64>,
}

impl Context {
    /// `group` names the run's processes, for [`Sandbox::kill_group`]; `env` is set for its commands.
    ///
    /// Nothing is started yet: the container comes with the first call that needs it, or with [`sandbox`](Self::sandbox).
    pub fn new(
        sandboxes: Sandboxes,
        spec: Spec,
        group: impl Into<String>,
        env: Vec<(String, String)>,
        web: web::Client,
    ) -> Self {
        Self {
            sandboxes,
            spec,
            group: group.into(),
            env,
            redactor: Arc::default(),
            web,
            pages: web::Cache::default(),
            skills: None,
            search: None,
            images: None,
            searches: AtomicU32::new(0),
            cwd: Mutex::new(WORKSPACE.to_owned()),
            seen: Mutex::default(),
            media_bytes: AtomicU64::new(0),
        }
    }

    /// Has the values replaced wherever a tool would give them.
    #[must_use]
    pub fn hiding<'a>(mut self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        self.redactor = Arc::new(Redactor::new(secrets));
        self
    }

    /// Gives what knows the values that must not be seen.
    pub(crate) fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.redactor)
    }

    /// With skills, whose files the computer has when it is used.
    #[must_use]
    pub fn with_skills(mut self, skills: Option<Library>) -> Self {
        self.skills = skills;
        self
    }

    /// With an engine for searches of the web.
    #[must_use]
    pub fn with_search(mut self, search: Option<web::search::Search>) -> Self {
        self.search = search;
        self
    }

    /// With a provider of pictures.
    #[must_use]
    pub fn with_images(mut self, images: Option<Images>) -> Self {
        self.images = images;
        self
    }

    /// Changes the image that was built for the environment, and tells whether its computer runs with that.
    pub(crate) fn use_image(&mut self, image: Option<String>) -> bool {
        self.spec.built = image;
        self.sandboxes.is_open(&self.spec)
    }

    /// Gives the run's computer, started if it does not run. An engine that is being restarted is waited for.
    pub async fn sandbox(&self) -> Result<Sandbox, Error> {
        let began_at = Instant::now();
        loop {
            match self.sandboxes.open(&self.spec).await {
                Err(err @ Error::NoEngine(_)) if began_at.elapsed() < ENGINE_PATIENCE => {
                    tracing::warn!(error = &err as &dyn std::error::Error, "no container engine answers, trying again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                opened => {
                    let sandbox = opened?;
                    if let Some(skills) = &self.skills {
                        skills.provide(&self.sandboxes, &self.spec, &sandbox).await;
                    }
                    return Ok(sandbox);
                }
            }
        }
    }

    /// Gives the files of the run's environment, for which no computer need run.
    pub(super) fn workspace(&self) -> Result<Workspace, Error> {
        self.sandboxes.workspace(&self.spec.environment)
    }

    /// Gives what the system prompt says of the run's skills.
    pub(crate) fn skill_listings(&self) -> Vec<String> {
        self.skills.as_ref().map(Library::listings).unwrap_or_default()
    }

    /// Puts the files of a skill into the computer, as it is now.
    pub(super) async fn put_skill(&self, skill: &Skill, mut files: Vec<SkillFile>) -> Result<(), Error> {
        self.sandbox().await?;
        files.push(skill::text_of(skill));
        self.sandboxes.put_skill(&self.spec, &skill.directory(), files).await
    }

    /// Gives a variable that is set for the run's commands.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Does `work` on the computer, and once more on a fresh one if the first ended meanwhile: for what may be repeated.
    pub(super) async fn with_sandbox<T, F>(&self, work: impl Fn(Sandbox) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        match work(self.sandbox().await?).await {
            Err(Error::Gone) => work(self.sandbox().await?).await,
            result => result,
        }
    }

    /// Reads a part of a file.
    pub(super) async fn read_file(&self, path: &str, offset: u64, limit: u64) -> Result<FileContent, Error> {
        self.with_sandbox(|sandbox| async move { sandbox.read_file(path, offset, limit).await }).await
    }

    /// Writes a file. Written twice it is the same file, so a container that ends meanwhile is no matter.
    pub(super) async fn write_file(&self, path: &str, content: &[u8]) -> Result<Written, Error> {
        self.with_sandbox(|sandbox| async move { sandbox.write_file(path, content).await }).await
    }

    /// Gives the directory in which the next command runs.
    pub(super) fn cwd(&self) -> String {
        lock(&self.cwd).clone()
    }

    pub(super) fn set_cwd(&self, cwd: String) {
        *lock(&self.cwd) = cwd;
    }

    pub(super) fn seen(&self, path: &str) -> Option<Seen> {
        lock(&self.seen).get(path).copied()
    }

    pub(super) fn note_seen(&self, path: &str, seen: Seen) {
        lock(&self.seen).insert(path.to_owned(), seen);
    }

    /// Counts a search of the web, or says that there were too many.
    pub(super) fn take_search(&self, most: u32) -> Result<(), ToolError> {
        match self.searches.fetch_add(1, Ordering::Relaxed) {
            taken if taken < most => Ok(()),
            _ => Err(for_model(format!("This run has searched {most} times, which is all it may."))),
        }
    }

    /// Counts `bytes` of an image or document, or says that there were too many.
    pub(crate) fn take_media(&self, bytes: u64) -> Result<(), ToolError> {
        let taken = self.media_bytes.fetch_add(bytes, Ordering::Relaxed);
        if taken + bytes > MAX_MEDIA_BYTES {
            self.media_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(for_model(
                "The images and PDF files read in this run have reached 20 MiB; no more can be shown. Work with what \
                 you saw, or turn the file into something smaller or into text with Bash.",
            ));
        }
        Ok(())
    }
}

impl Seen {
    pub(super) fn whole(modified_ms: i64, content: &[u8]) -> Self {
        Self { modified_ms, size: content.len() as u64, hash: Some(hash(content)) }
    }

    /// Tells whether `file`, read as a whole, is as it was seen.
    pub(super) fn is_same(&self, file: &FileContent) -> bool {
        match self.hash {
            // A tool that touches files without changing them is no reason to stop.
            Some(seen) => seen == hash(&file.bytes),
            None => self.modified_ms == file.modified_ms && self.size == file.size,
        }
    }
}

impl From<Error> for ToolError {
    fn from(err: Error) -> Self {
        match err {
            Error::NotFound(path) => for_model(format!("There is no file or directory {path}.")),
            Error::IsDirectory(path) => for_model(format!("{path} is a directory, not a file.")),
            Error::NotADirectory(path) => for_model(format!("A part of the path {path} is a file, not a directory.")),
            Error::PermissionDenied(path) => for_model(format!("Access to {path} is not permitted.")),
            Error::Outside(path) => for_model(format!("{path} leads out of the workspace.")),
            Error::TooLarge(what) => for_model(format!("{what} is too large.")),
            Error::Refused { path, why } => for_model(format!("{path} {why}.")),
            Error::DiskFull | Error::DiskLimit => {
                for_model("No space is left on the computer's disk. Remove what is not needed first.")
            }
            Error::NotListening => for_model("Nothing listens on that port."),
            Error::Gone => for_model(RESTARTED),
            Error::Other { what, source } => for_model(format!("That failed: {what} ({source}).")),
            err @ (Error::NoEngine(_)
            | Error::NoImage(_)
            | Error::ImageRefused(_)
            | Error::CannotBuild(_)
            | Error::BuildFailed(_)
            | Error::StartFailed { .. }
            | Error::Unfiltered(_)) => Self::Fatal(err),
        }
    }
}

fn hash(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

/// Nothing panics while it holds one of these locks, and what they guard is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
