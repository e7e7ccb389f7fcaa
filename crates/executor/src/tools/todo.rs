//! TodoWrite: the model's own list of what is to be done, shown to those who watch.

use domain::event::Detail;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Definition, Outcome, ToolError, for_model, input};

pub(super) const DEFINITION: Definition = (
    "TodoWrite",
    "Keeps the list of what you have to do, for work of several steps; the people who watch see it. Each call replaces the \
     whole list.

- content says what is to be done (\"Run the tests\"), activeForm the same while you do it (\"Running the tests\").
- status is pending, in_progress or completed. Have one item in progress at a time, and mark it completed as soon as it \
is done, not before.
- Leave it out for a task of one or two steps.",
    r#"{"type":"object","properties":{"todos":{"type":"array","description":"The whole list","items":{"type":"object","properties":{"content":{"type":"string","minLength":1},"status":{"type":"string","enum":["pending","in_progress","completed"]},"activeForm":{"type":"string","minLength":1}},"required":["content","status","activeForm"],"additionalProperties":false}}},"required":["todos"],"additionalProperties":false}"#,
);

const MAX_TODOS: usize = 200;
const MAX_CHARS: usize = 1000;

#[derive(Deserialize)]
struct Input {
    todos: Vec<Todo>,
}

#[derive(Deserialize, Serialize)]
struct Todo {
    content: String,
    status: Status,
    #[serde(rename = "activeForm")]
    active_form: String,
}

#[derive(Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    InProgress,
    Completed,
}

pub(super) fn call(input: &RawValue) -> Result<Outcome, ToolError> {
    let Input { todos } = input::parse("TodoWrite", input)?;
    if todos.len() > MAX_TODOS {
        return Err(for_model(format!("The list has more than {MAX_TODOS} items. The list is as it was.")));
    }
    for todo in &todos {
        if todo.content.trim().is_empty() {
            return Err(for_model("An item of the list has an empty content. The list is as it was."));
        }
        if todo.content.chars().count().max(todo.active_form.chars().count()) > MAX_CHARS {
            return Err(for_model(format!("An item has more than {MAX_CHARS} characters. The list is as it was.")));
        }
    }
    let count = |status| todos.iter().filter(|todo| todo.status == status).count();
    let said = format!(
        "The list was updated: {} completed, {} in progress, {} pending.",
        count(Status::Completed),
        count(Status::InProgress),
        count(Status::Pending)
    );
    let todos = serde_json::to_value(&todos).expect("plain structs make JSON");
    Ok(Outcome::text(said, Some(Detail::Todos { todos })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(json: &str) -> Result<Outcome, ToolError> {
        call(&RawValue::from_string(json.to_owned()).unwrap())
    }

    #[test]
    fn the_list_is_counted_and_shown() {
        let json = r#"{"todos":[{"content":"a","status":"completed","activeForm":"A"},{"content":"b","status":"in_progress","activeForm":"B"}]}"#;
        let outcome = write(json).unwrap();
        assert_eq!(outcome.to_text(), "The list was updated: 1 completed, 1 in progress, 0 pending.");
        let todos: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(outcome.detail, Some(Detail::Todos { todos: todos["todos"].clone() }));
    }

    #[test]
    fn a_wrong_list_is_refused_with_a_sentence() {
        for (json, sentence) in [
            (
                r#"{"todos":[{"content":"a","status":"done","activeForm":"A"}]}"#,
                "The input of TodoWrite is not valid: unknown variant `done`, expected one of `pending`, `in_progress`, \
                 `completed` in `todos[0].status`. Nothing was done.",
            ),
            (
                r#"{"todos":[{"content":" ","status":"pending","activeForm":"A"}]}"#,
                "An item of the list has an empty content. The list is as it was.",
            ),
        ] {
            assert_eq!(write(json).unwrap_err().to_string(), sentence);
        }
    }
}
