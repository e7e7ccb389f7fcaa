//! Background commands: Bash starts them, TaskStop ends them, their output is a file in the container.
//!
//! The model gets an id of ours, which is also the file's name. The daemon's own number, good for one life of the
//! container, is noted beside the file together with that life; so an id of an earlier life never ends a stranger.

use domain::event::Detail;
use sandbox::{Command, Error, Sandbox};
use serde::Deserialize;

use super::{Context, Definition, Outcome, ToolError, for_model, input, text};

pub(super) const DEFINITION: Definition = (
    "TaskStop",
    "Ends a background task with everything it started, by the id that Bash gave when it was started. The file with its \
     output stays.",
    r#"{"type":"object","properties":{"task_id":{"type":"string","description":"The id of the background task"}},"required":["task_id"],"additionalProperties":false}"#,
);

const DIRECTORY: &str = "/tmp/atelier-tasks";

/// Starts a background command. `text` is what the model wrote.
pub(super) async fn start(
    cx: &Context,
    sandbox: &Sandbox,
    mut command: Command,
    text: &str,
) -> Result<Outcome, ToolError> {
    let random = uuid::Uuid::new_v4().simple().to_string();
    let id = format!("b{}", &random[..8]);
    let output = format!("{DIRECTORY}/{id}.output");
    let started = match sandbox.start_background(command.clone(), &output).await {
        Err(Error::NotFound(what)) if what == "bash" => {
            "sh".clone_into(&mut command.argv[0]);
            sandbox.start_background(command, &output).await
        }
        Err(Error::NotFound(what)) if what == command.cwd => {
            let cwd = super::context::WORKSPACE;
            cx.set_cwd(cwd.to_owned());
            return Err(for_model(format!(
                "The working directory {what} does not exist any more. The command was not started. The working \
                 directory is {cwd} again."
            )));
        }
        started => started,
    };
    let task = started?;
    let note = format!("{task} {}", life(sandbox).await?);
    sandbox.write_file(&note_path(&id), note.as_bytes()).await?;
    let said = format!(
        "The command runs in the background as task {id}. Its output goes to {output}: read that with Read. End the task \
         with TaskStop."
    );
    let detail = Detail::Command { command: text::shorten(text, 4000), exit_code: None, output: said.clone() };
    Ok(Outcome::text(said, Some(detail)))
}

#[derive(Deserialize)]
struct Input {
    task_id: String,
}

/// Gives the task that a call is about.
pub(super) fn task_id(input: &serde_json::value::RawValue) -> Option<String> {
    input::parse::<Input>("TaskStop", input).ok().map(|input| input.task_id)
}

pub(super) async fn stop(cx: &Context, input: &serde_json::value::RawValue) -> Result<Outcome, ToolError> {
    let Input { task_id } = input::parse("TaskStop", input)?;
    let unknown = || for_model(format!("There is no background task {:?}.", text::shorten(&task_id, 40)));
    let is_id = task_id.len() == 9 && task_id.starts_with('b') && task_id.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_id {
        return Err(unknown());
    }
    let sandbox = cx.sandbox().await?;
    let note = match sandbox.read_file(&note_path(&task_id), 0, 256).await {
        Ok(note) => String::from_utf8_lossy(&note.bytes).into_owned(),
        Err(Error::NotFound(_)) => return Err(unknown()),
        Err(err) => return Err(err.into()),
    };
    let (task, life_then) = note.split_once(' ').ok_or_else(unknown)?;
    let ended = format!("Task {task_id} had already ended.");
    if life_then != life(&sandbox).await? {
        return Ok(Outcome::text(ended, None));
    }
    let text = match sandbox.stop_background(task).await? {
        true => format!("Stopped task {task_id}."),
        false => ended,
    };
    Ok(Outcome::text(text, None))
}

fn note_path(id: &str) -> String {
    format!("{DIRECTORY}/.{id}")
}

/// Names the container's present life: when its first process started, in the kernel's count.
async fn life(sandbox: &Sandbox) -> Result<String, Error> {
    let stat = sandbox.read_file("/proc/1/stat", 0, 4096).await?;
    let stat = String::from_utf8_lossy(&stat.bytes);
    // Field 22; the second is a name in parentheses that may hold anything.
    let start = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_ascii_whitespace().nth(19));
    Ok(format!("{}:{}", sandbox.container(), start.unwrap_or_default()))
}
