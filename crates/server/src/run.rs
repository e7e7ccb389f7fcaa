//! `atelier run`: a client that gives a server a task and shows how it is done. It knows nothing but the public API.

mod client;
mod event;
mod links;
mod render;
mod screen;

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use secrecy::SecretString;
use url::Url;

use self::{
    client::{Client, Followed, Following, Task},
    event::Event,
    render::{Piece, Renderer},
    screen::Screen,
};
use crate::{cli::say, config::Environment};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
const DEFAULT_KEY_FILE: &str = ".atelier/api-key";

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
const CANCELLED: u8 = 130;

/// The exit code tells the outcome: 0 completed, 1 failed, 2 wrong usage, 3 server not reached, 130 cancelled.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What is to be done; - reads it from standard input
    task: String,
    /// Where the server is [default: $ATELIER_URL, or http://127.0.0.1:8080]
    #[arg(long)]
    url: Option<Url>,
    /// A file with the API key [default: $ATELIER_API_KEY, or the file .atelier/api-key]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Go on in this thread
    #[arg(long, value_name = "ID", conflicts_with_all = ["environment", "agent"])]
    thread: Option<String>,
    /// Work in this environment instead of the default one
    #[arg(long, value_name = "ID")]
    environment: Option<String>,
    /// Work as this agent
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Think with this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Print every event's JSON as one line, and nothing else
    #[arg(long)]
    json: bool,
}

/// Why there is no outcome to tell.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("cannot reach the server at {url}: {why}")]
    Unreachable { url: String, why: String },
    /// The server answered, and said no.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable { .. } => UNREACHABLE,
            Self::Refused(_) => FAILED,
        }
    }
}

pub(crate) async fn run(arguments: Arguments, environment: Environment) -> anyhow::Result<ExitCode> {
    let code = match prepare(&arguments, &environment) {
        Ok((client, task)) if arguments.json => {
            let followed = follow(client, task, |_, data| say(&format!("{data}\n")), |_| {}).await;
            followed.map(|(code, _)| code)
        }
        Ok((client, task)) => show(client, task).await,
        Err(err) => Err(err),
    };
    Ok(ExitCode::from(code.unwrap_or_else(|err| {
        eprintln!("atelier: {err}");
        err.code()
    })))
}

fn prepare(arguments: &Arguments, environment: &Environment) -> Result<(Client, Task), Error> {
    let url = match (&arguments.url, environment.get("ATELIER_URL")) {
        (Some(url), _) => url.clone(),
        (None, text) => text.unwrap_or(DEFAULT_URL).parse().map_err(|_| {
            Error::Usage(format!("ATELIER_URL must be a URL like {DEFAULT_URL}, not {:?}", text.unwrap_or_default()))
        })?,
    };
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(Error::Usage(format!(
            "the server's URL must begin with http:// or https://, not {:?}",
            url.as_str()
        )));
    }
    let key = find_key(arguments, environment).map_err(|err| Error::Usage(format!("{err:#}")))?;
    let content = match arguments.task.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|err| Error::Usage(format!("cannot read the task from standard input: {err}")))?;
            text
        }
        task => task.to_owned(),
    };
    if content.trim().is_empty() {
        return Err(Error::Usage("the task is empty: say what is to be done".into()));
    }
    let task = Task {
        content,
        thread: arguments.thread.clone(),
        environment: arguments.environment.clone(),
        agent: arguments.agent.clone(),
        model: arguments.model.clone(),
    };
    Ok((Client::new(url, key)?, task))
}

fn find_key(arguments: &Arguments, environment: &Environment) -> anyhow::Result<SecretString> {
    let file = match (&arguments.api_key_file, environment.get("ATELIER_API_KEY")) {
        (Some(file), _) => file.clone(),
        (None, Some(key)) => return Ok(SecretString::from(key.trim())),
        (None, None) => PathBuf::from(environment.get("ATELIER_API_KEY_FILE").unwrap_or(DEFAULT_KEY_FILE)),
    };
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read the API key from {}; name one with --api-key-file", file.display()))?;
    match text.trim() {
        "" => anyhow::bail!("{} holds no API key", file.display()),
        key => Ok(SecretString::from(key)),
    }
}

async fn show(client: Client, task: Task) -> Result<u8, Error> {
    let is_terminal = std::io::stdout().is_terminal();
    let screen = std::cell::RefCell::new(Screen::new(is_terminal));
    let renderer = std::cell::RefCell::new(Renderer::new(is_terminal, Instant::now()));
    screen.borrow_mut().show(Piece::Status("sending the task".into()));
    if let Some(thread) = &task.thread {
        renderer.borrow_mut().set_thread(thread.clone());
    }
    let on_event = |event: Event, _: &str| {
        for piece in renderer.borrow_mut().render(event, Instant::now()) {
            screen.borrow_mut().show(piece);
        }
    };
    let on_trouble = |text: &str| screen.borrow_mut().note(text);
    let followed = follow(client, task, on_event, on_trouble).await;
    screen.borrow_mut().end();
    let (code, following) = followed?;
    // What was left running is a part of the outcome; that there is no link to it is none.
    if code == 0
        && let Some(thread) = following.thread()
    {
        for link in links::to_what_listens(following.client(), thread).await {
            say(&format!("{link}\n"));
        }
    }
    Ok(code)
}

/// Follows the run to its end. `on_event` gets every event and its JSON, `on_trouble` sentences about the connection.
/// Gives the exit code, and what was followed.
async fn follow(
    client: Client,
    task: Task,
    mut on_event: impl FnMut(Event, &str),
    on_trouble: impl Fn(&str),
) -> Result<(u8, Following), Error> {
    let mut following = client.start(task);
    let mut interrupts = 0;
    let mut outcome = None;
    loop {
        let followed = tokio::select! {
            followed = following.next() => followed?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupts += 1;
                if interrupted.is_err() || interrupts > 1 || !cancel(&following, &on_trouble).await {
                    return Ok((CANCELLED, following));
                }
                continue;
            }
        };
        match followed {
            Followed::Event { event, data } => {
                if let Event::StreamCompleted { run } = &event {
                    outcome = Some(run.status.clone());
                }
                on_event(event, &data);
            }
            Followed::Trouble(text) => on_trouble(&text),
            Followed::End => break,
        }
    }
    let code = match outcome.as_deref() {
        Some("completed") => 0,
        Some("cancelled") => CANCELLED,
        Some(_) | None => FAILED,
    };
    Ok((code, following))
}

/// Asks the server to stop the run. False if there is nothing to wait for.
async fn cancel(following: &Following, on_trouble: &impl Fn(&str)) -> bool {
    on_trouble("cancelling the run; press Ctrl-C again to leave it alone");
    match tokio::time::timeout(Duration::from_secs(10), following.cancel()).await {
        Ok(Ok(())) => true,
        Ok(Err(err)) => {
            on_trouble(&format!("cannot cancel: {err}"));
            false
        }
        Err(_) => {
            on_trouble("cannot cancel: the server does not answer");
            false
        }
    }
}
