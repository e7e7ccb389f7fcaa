//! The offline first run: a small web API, really written, really started, really called.
//!
//! What comes next follows from the calls and results so far. Nothing is claimed that a tool did not show: where Flask
//! cannot be had, the script says so and serves the same route with the standard library.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Value, json};

use crate::{Asked, Block, Reply};

const FLASK_APP: &str = include_str!("first_task/flask_app.py");
const PLAIN_APP: &str = include_str!("first_task/plain_app.py");

pub(super) fn answer(asked: &Asked, workspace: &str) -> Reply {
    if asked.user_text.to_lowercase().contains("flask") {
        flask(asked, workspace)
    } else if let Some(simple) = Simple::of(&asked.user_text, workspace) {
        simple.answer(asked)
    } else {
        Reply::text(format!(
            "I am the offline stand-in: a script that speaks the Claude API, not a language model. You asked: \"{}\". I \
             cannot think about that, but I can show that everything around me works. Try \"Create a Flask API and run it\", \
             \"create a file notes.txt with hello\", \"list files\" or \"run: uname -a\". With an API key set, Claude answers \
             in my place.",
            asked.user_text.trim()
        ))
    }
}

fn flask(asked: &Asked, workspace: &str) -> Reply {
    let text_of = |input: &Value, field: &str| input[field].as_str().unwrap_or_default().to_owned();
    let has = |marker: &str| {
        let holds = |input| text_of(input, "command").contains(marker) || text_of(input, "content").contains(marker);
        asked.calls.iter().any(|call| holds(&call.input))
    };
    let last = asked.last_result_text();
    let failed = asked.last_results().any(|result| result.is_error);
    let write = |app: &str| json!({ "file_path": format!("{workspace}/app.py"), "content": app });

    if let Some(missing) = ["Write", "Bash"].iter().find(|tool| !asked.tools.iter().any(|offered| offered == *tool)) {
        return Reply::text(format!("I cannot build anything here: I was not given the tool {missing}."));
    }
    if asked.calls.is_empty() {
        return Reply::tool("Write", write(FLASK_APP))
            .after(Block::text("I will write a small Flask API, start it, and call it to see that it works."))
            .after(Block::thinking(
                "One file is enough: two routes and a free port. Then start it in the background and curl it.",
            ));
    }
    let last_tool = asked.calls.last().map(|call| call.name.as_str());
    if !has("flask-ready") {
        if failed && last_tool == Some("Write") && asked.calls.len() == 1 {
            return Reply::tool("Read", json!({ "file_path": format!("{workspace}/app.py") }))
                .after(Block::text("There may be an app.py already. I look at it before I replace it."));
        }
        if !failed && last_tool == Some("Read") {
            return Reply::tool("Write", write(FLASK_APP));
        }
        if failed {
            return Reply::text(format!("I could not write the file:\n\n```\n{}\n```", last.trim()));
        }
        return bash(
            &format!(
                "cd {workspace} && rm -f app.port\n\
                 if python3 -c 'import flask' 2>/dev/null || .venv/bin/python -c 'import flask' 2>/dev/null; then echo flask-ready\n\
                 elif python3 -m venv .venv && .venv/bin/pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 flask\n\
                 then echo flask-ready\n\
                 else echo 'no flask here'; fi"
            ),
            "Make sure Flask is there",
        );
    }
    let has_flask = asked.results.iter().any(|result| result.text.contains("flask-ready"));
    if !has_flask && !has("http.server") {
        return Reply::tool("Write", write(PLAIN_APP)).after(Block::text(
            "Flask cannot be installed here (no package index answers), so I serve the same routes with Python's standard \
             library.",
        ));
    }
    if !has("exec \"$python\" app.py") {
        let command = format!(
            "cd {workspace} && python=python3 && if .venv/bin/python -c 'import flask' 2>/dev/null; then \
             python=.venv/bin/python; fi && exec \"$python\" app.py > app.log 2>&1"
        );
        return Reply::tool(
            "Bash",
            json!({ "command": command, "description": "Start the API in the background", "run_in_background": true }),
        );
    }
    if !has("%{http_code}") {
        if failed {
            return Reply::text(format!("The API could not be started:\n\n```\n{}\n```", last.trim()));
        }
        return bash(
            &format!(
                "cd {workspace}\n\
                 for i in $(seq 1 150); do\n  \
                 if [ -s app.port ] && curl -fsS -o /dev/null \"http://127.0.0.1:$(cat app.port)/\" 2>/dev/null; then break; fi\n  \
                 sleep 0.1\n\
                 done\n\
                 curl -sS -w '\\nHTTP %{{http_code}} from %{{url_effective}}\\n' \
                 \"http://127.0.0.1:$(cat app.port)/api/hello?name=Atelier\" || {{ cat app.log; exit 1; }}"
            ),
            "Wait for the API and call it",
        );
    }
    let served_by = if has_flask { "Flask" } else { "Python's standard library (Flask is not available here)" };
    if failed || !last.contains("HTTP 200") {
        return Reply::text(format!(
            "I wrote `app.py` and started it, but it did not answer as it should. The call gave:\n\n```\n{}\n```",
            last.trim()
        ));
    }
    Reply::text(format!(
        "The API runs. I wrote `{workspace}/app.py`, served by {served_by}, started it in the background and called it. It \
         answered:\n\n```\n{}\n```\n\nThis was the offline stand-in following a script; the file, the process and the answer \
         above are real.",
        last.trim()
    ))
}

fn bash(command: &str, description: &str) -> Reply {
    Reply::tool("Bash", json!({ "command": command, "description": description, "timeout": 180_000 }))
}

/// A request simple enough for a pattern.
struct Simple {
    tool: &'static str,
    input: Value,
    done: &'static str,
}

impl Simple {
    fn of(text: &str, workspace: &str) -> Option<Self> {
        static CREATE: LazyLock<Regex> = LazyLock::new(|| {
            let pattern = r#"(?is)\b(?:create|write|make)\s+(?:a\s+|the\s+)?file\s+(?:named\s+|called\s+)?["'`]?([\w][\w./-]*)["'`]?\s+(?:with|containing|that says|saying)\s+(?:the\s+)?(?:content|contents|text)?\s*:?\s*(.+)"#;
            Regex::new(pattern).expect("a constant pattern")
        });
        static LIST: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"(?i)\blist\s+(?:all\s+|the\s+|my\s+)*files\b").expect("a constant pattern"));
        static RUN: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"(?is)^\s*(?:please\s+)?(?:run|execute)\s*(?::\s*(.+)|`([^`]+)`.*)$")
                .expect("a constant pattern")
        });
        if let Some(found) = CREATE.captures(text) {
            let content = found[2].trim().trim_matches(['"', '\'', '`']);
            let path = format!("{workspace}/{}", &found[1]);
            return Some(Self {
                tool: "Write",
                input: json!({ "file_path": path, "content": format!("{content}\n") }),
                done: "I wrote the file. The tool said:",
            });
        }
        let command = match RUN.captures(text) {
            Some(found) => found.get(1).or(found.get(2))?.as_str().trim().to_owned(),
            None if LIST.is_match(text) => format!("ls -la {workspace}"),
            None => return None,
        };
        Some(Self {
            tool: "Bash",
            input: json!({ "command": command, "description": "Do what was asked" }),
            done: "This is what it gave:",
        })
    }

    fn answer(self, asked: &Asked) -> Reply {
        if !asked.tools.iter().any(|offered| offered == self.tool) {
            return Reply::text(format!("I cannot do that here: I was not given the tool {}.", self.tool));
        }
        if asked.round == 0 {
            return Reply::tool(self.tool, self.input);
        }
        let failed = asked.last_results().any(|result| result.is_error);
        let opening = if failed { "That did not work. The tool said:" } else { self.done };
        Reply::text(format!("{opening}\n\n```\n{}\n```", asked.last_result_text().trim()))
    }
}
