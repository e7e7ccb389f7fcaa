//! Many MCP servers on one agent: what they add to a turn that calls none of them.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{Bench, Task, between, take_overheads};
use crate::{report::Bound::AtMost, samples::Samples};

const SERVERS: usize = 20;
const WRITES: usize = 10;
/// The most that they may add, in milliseconds.
const MOST_MS: f64 = 50.0;

/// A server in a few lines: ten tools, which nobody calls.
const SERVER: &str = r#"
import json, sys
tools = [{"name": f"tool-{n}", "description": "Does something that is described in a sentence of some length.",
          "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}} for n in range(10)]
for line in sys.stdin:
    asked = json.loads(line)
    method, id = asked.get("method"), asked.get("id")
    if method == "initialize":
        result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "bench", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": tools}
    elif id is None:
        continue
    else:
        print(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}}), flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}), flush=True)
"#;

impl Bench<'_> {
    /// `environment` has none.
    pub(super) async fn mcp_servers(&mut self, environment: &str) -> anyhow::Result<()> {
        let server =
            |n| json!({"type": "stdio", "name": format!("server-{n}"), "command": "python3", "args": ["-c", SERVER]});
        let servers: Vec<Value> = (0..SERVERS).map(server).collect();
        let with = self.system.client.environment_with(json!({ "mcpServers": servers })).await?;
        // The first run starts all of them to ask what they have; whoever is late joins with a later one.
        for _ in 0..2 {
            self.work(&with, &Task { writes: 5, ..Task::default() }).await?;
        }
        let [mut turn_with, mut turn_without] = [Samples::default(), Samples::default()];
        let [mut first_with, mut first_without] = [Samples::default(), Samples::default()];
        for _ in 0..self.count(20) {
            for (environment, turn, first) in
                [(environment, &mut turn_without, &mut first_without), (with.as_str(), &mut turn_with, &mut first_with)]
            {
                let done = self.work(environment, &Task { writes: WRITES, ..Task::default() }).await?;
                let exchanges = self.exchanges(&done);
                ensure!(exchanges.len() == WRITES + 1, "the model was asked {} times", exchanges.len());
                take_overheads(turn, &exchanges, 0..WRITES);
                between(first, done.seen.sent_at, exchanges.get(&0).context("the model was asked")?.body_at);
            }
        }
        let figures = [
            ("Write call, with 20 MCP servers", turn_with, turn_without),
            ("message to the model's request, with 20 MCP servers", first_with, first_without),
        ];
        for (figure, with, without) in figures {
            let without = without.median();
            let aim = ("without + 50 ms", AtMost(without + MOST_MS));
            self.report.add(figure, "ms", &with, Some(("without", without)), Some(aim));
        }
        Ok(())
    }
}
