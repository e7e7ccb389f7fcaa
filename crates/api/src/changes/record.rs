//! Writing down what a request of the API did to files.
//!
//! The request has done what it was to do, whether that can be written down or not: what fails here is for the log.

use std::collections::BTreeSet;

use domain::{
    EnvironmentId, WorkspacePath,
    change::{Author, Source},
};
use ledger::Writer;

use crate::{Api, auth::Caller};

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 200;

/// Before the first change of an environment: sees to it that what was there is known.
pub(crate) async fn prepare(api: &Api, environment: &EnvironmentId) {
    if let Err(err) = api.ledger.initialize(environment).await {
        let error = &err as &dyn std::error::Error;
        tracing::warn!(%environment, error, "cannot begin the history of an environment");
    }
}

/// Does work of the caller's that may change any file, and writes down what changed by it, whether it succeeds or not.
///
/// Runs that work in the environment at the same time are told as others it may have been. It must not be dropped before
/// its end.
pub(crate) async fn watch<T>(
    api: &Api,
    caller: &Caller,
    environment: &EnvironmentId,
    source: Source,
    title: String,
    work: impl Future<Output = T>,
) -> T {
    // What was there before it is not the caller's.
    capture(api, environment).await;
    let author = Author::key(source, caller.key.clone());
    let title = title.chars().take(MAX_TITLE_CHARS).collect();
    let working = api.ledger.begin(environment, Writer { author, title, named: BTreeSet::new(), may_write_all: true });
    let done = work.await;
    drop(working);
    capture(api, environment).await;
    done
}

async fn capture(api: &Api, environment: &EnvironmentId) {
    if let Err(err) = api.ledger.capture(environment).await {
        tracing::warn!(%environment, error = &err as &dyn std::error::Error, "cannot write down what changed");
    }
}

/// Writes down that the caller changed what is at `paths`.
pub(crate) async fn record(
    api: &Api,
    caller: &Caller,
    environment: &EnvironmentId,
    source: Source,
    paths: &[&WorkspacePath],
) {
    let names: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
    let title = match source {
        Source::Upload => format!("Uploaded {}", names.join(", ")),
        Source::MakeDirectory => format!("Made the directory {}", names.join(", ")),
        Source::Move => format!("Moved {}", names.join(" to ")),
        Source::Delete => format!("Deleted {}", names.join(", ")),
        Source::Run | Source::Outside | Source::Git | Source::Revert | Source::Reapply => {
            format!("Changed {}", names.join(", "))
        }
    };
    let author = Author::key(source, caller.key.clone());
    let paths: Vec<WorkspacePath> = paths.iter().map(|path| (*path).clone()).collect();
    let (ledger, id) = (api.ledger.clone(), environment.clone());
    // In a task of its own: a client that goes away does not keep it from being written.
    let recorded = tokio::spawn(async move { ledger.capture_paths(&id, author, title, &paths).await }).await;
    let err = match recorded {
        Ok(Ok(_)) => return,
        Ok(Err(err)) => err,
        Err(err) => ledger::Error::CutOff(err),
    };
    tracing::warn!(%environment, error = &err as &dyn std::error::Error, "cannot write down a change of files");
}
