//! Making a thread of another, with the files that belong to it.

use axum::http::StatusCode;
use domain::{
    EnvironmentId, WorkspacePath,
    change::{Author, Snapshot, Source},
    thread::Thread,
};
use store::{
    copies::{Copied, NewCopy},
    environments::NewEnvironment,
};

use super::CopiedThread;
use crate::{Api, Error, Result, auth::Caller};

/// What is made of a thread.
#[derive(Debug, Default)]
pub(crate) struct Branch {
    pub title: Option<String>,
    /// The first message that is not copied, counted from 0.
    pub cut: Option<i64>,
    pub cut_is_from_user: bool,
    /// The number of the last step that is copied.
    pub last_step: Option<i64>,
    pub home: Home,
    /// What is copied of which state, where the copy does not stay.
    pub files: Option<(Snapshot, Files)>,
    /// What clients are told it is.
    pub mode: &'static str,
}

/// Where the copy works.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Home {
    /// Where the original does.
    #[default]
    Same,
    Existing(EnvironmentId),
    /// In an environment like the original's, of this name.
    New(Option<String>),
}

/// Which files come along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Files {
    All,
    /// Those that the copied steps changed.
    OfThread,
}

/// Gives the state of an environment's files as they are now.
pub(crate) async fn latest_state(api: &Api, environment: &EnvironmentId) -> Result<Snapshot> {
    api.ledger.capture(environment).await?;
    Ok(api.ledger.initialize(environment).await?)
}

/// Makes the copy. What fails leaves neither a thread nor an environment.
pub(crate) async fn branch(api: &Api, caller: &Caller, original: &Thread, branch: Branch) -> Result<CopiedThread> {
    let (environment, is_new) = match branch.home {
        Home::Same => (original.environment_id.clone(), false),
        Home::Existing(id) => (id, false),
        Home::New(name) => (new_environment(api, caller, &original.environment_id, name).await?, true),
    };
    let new = NewCopy {
        title: branch.title.filter(|title| !title.trim().is_empty()),
        cut: branch.cut,
        cut_is_from_user: branch.cut_is_from_user,
        environment_id: Some(environment.clone()),
        last_step: branch.last_step,
    };
    let made = make(api, caller, original, new, &environment, is_new, branch.files).await;
    let (copied, snapshot) = match made {
        Ok(made) => made,
        Err(err) => {
            if is_new {
                // An environment with half of the files would be taken for the whole.
                api.store.delete_environment(&caller.project, &environment, true).await?;
            }
            return Err(err);
        }
    };
    Ok(CopiedThread {
        environment_id: copied.thread.environment_id.to_string(),
        environment_name: copied.thread.environment_name.clone(),
        thread: copied.thread.into(),
        snapshot_id: snapshot.map(|snapshot| snapshot.id.into()),
        messages_copied: copied.messages,
        fork_mode: branch.mode,
    })
}

async fn make(
    api: &Api,
    caller: &Caller,
    original: &Thread,
    new: NewCopy,
    environment: &EnvironmentId,
    is_new: bool,
    files: Option<(Snapshot, Files)>,
) -> Result<(Copied, Option<Snapshot>)> {
    let copied = api.store.copy_thread(&caller.project, &original.id, &new).await?;
    let Some((state, which)) = files else { return Ok((copied, None)) };
    match bring(api, caller, &copied, environment, is_new, &state, which).await {
        Ok(snapshot) => Ok((copied, Some(snapshot))),
        Err(err) => {
            api.store.delete_thread(&caller.project, &copied.thread.id).await?;
            Err(err)
        }
    }
}

/// Brings files to where the copy works.
async fn bring(
    api: &Api,
    caller: &Caller,
    copied: &Copied,
    environment: &EnvironmentId,
    is_new: bool,
    state: &Snapshot,
    which: Files,
) -> Result<Snapshot> {
    let files = match which {
        Files::All if is_new => return Ok(api.ledger.fork(&state.environment_id, state, environment).await?.0),
        Files::All => None,
        Files::OfThread => {
            let paths = api.store.list_step_paths(&copied.thread.id, copied.last_step).await?;
            // A name that is no path of ours is none that a step can be asked about.
            Some(paths.iter().filter_map(|path| WorkspacePath::parse(path).ok()).collect())
        }
    };
    let author = Author::key(Source::Upload, caller.key.clone());
    let title = "Copied with a thread".to_owned();
    Ok(api.ledger.put(environment, state, files, author, title).await?.snapshot)
}

/// Makes an environment like another, without its files.
async fn new_environment(
    api: &Api,
    caller: &Caller,
    like: &EnvironmentId,
    name: Option<String>,
) -> Result<EnvironmentId> {
    let environment = api.store.find_environment(&caller.project, like).await?;
    let environment = environment.ok_or_else(|| {
        let message = "The thread's environment was deleted, so there is nothing to make another of";
        Error::new(StatusCode::CONFLICT, message)
    })?;
    let new = NewEnvironment {
        name: name.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| format!("{} Copy", environment.name)),
        settings: environment.settings,
        secrets: api.store.open_secrets(&environment.id).await?,
        is_default: false,
    };
    Ok(api.store.create_environment(&caller.project, new).await?.id)
}
