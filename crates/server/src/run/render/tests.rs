use std::time::Duration;

use super::*;

/// Events as a server sends them, one JSON a line.
const RECORDED: &str = include_str!("recorded.jsonl");

fn show(is_coloured: bool, events: &str) -> String {
    let began = Instant::now();
    let mut renderer = Renderer::new(is_coloured, began);
    let mut shown = String::new();
    for line in events.lines() {
        let event: Event = serde_json::from_str(line).unwrap_or(Event::Other);
        for piece in renderer.render(event, began + Duration::from_millis(12_340)) {
            match piece {
                Piece::Text(text) => shown.push_str(&text),
                Piece::Line(line) if shown.is_empty() || shown.ends_with('\n') => shown.push_str(&format!("{line}\n")),
                Piece::Line(line) => shown.push_str(&format!("\n{line}\n")),
                Piece::LineEnd if shown.is_empty() || shown.ends_with('\n') => {}
                Piece::LineEnd => shown.push('\n'),
                Piece::Status(_) => {}
            }
        }
    }
    shown
}

#[test]
fn a_recorded_run_reads_well() {
    insta::assert_snapshot!(show(false, RECORDED));
}

#[test]
fn on_a_terminal_it_has_colours() {
    insta::assert_snapshot!(show(true, RECORDED).replace('\x1b', "^"));
}

#[test]
fn nothing_from_a_command_reaches_the_terminal_as_a_command() {
    let event = r#"{"type":"response.item.completed","item":{"type":"tool_call","id":"1","name":"Bash\u001b[2J",
        "arguments":"{\"command\":\"printf '\\u001b]0;x\\u0007'\"}","status":"completed",
        "tool":{"type":"command_execution","command":"x","exit_code":0,"output":"\u001b[31mred\u001b[0m\u009b2J\rover\u202e"}}}"#;
    let shown = show(false, &event.replace('\n', ""));
    assert!(shown.chars().all(|letter| !letter.is_control() || letter == '\n'), "{shown:?}");
    assert!(!shown.contains('\u{202e}'));
}

#[test]
fn a_text_that_was_begun_twice_is_shown_whole() {
    let events = r#"{"type":"response.content_part.delta","delta":{"text":"Hel"}}
{"type":"response.item.completed","item":{"type":"text","content":"Good day."}}"#;
    assert_eq!(show(false, events), "Hel\nGood day.\n");
}
