use serde_json::json;

use super::*;

fn set(json: Value) -> PermissionSet {
    PermissionSet::parse(&json).expect("a set")
}

fn bash(command: &str) -> Value {
    json!({ "command": command })
}

#[test]
fn nothing_said_allows_everything() {
    let set = set(Value::Null);
    assert_eq!(set.judge("Bash", &bash("rm -rf /")), Verdict { access: Access::Allow, rule: None });
}

#[test]
fn an_allowed_command_allows_nothing_that_comes_with_it() {
    let set = set(json!({"rules": {"allow": ["Bash(npm run *)", "Bash(git status)"]}}));
    for (command, access) in [
        ("npm run test", Access::Allow),
        ("npm run", Access::Allow),
        ("npm run a && npm run b", Access::Allow),
        ("npm run a; git status", Access::Allow),
        ("npm run a 2>&1 | npm run b", Access::Allow),
        ("npm run 'a; b'", Access::Allow),
        ("npm run $TARGET", Access::Allow),
        ("npm runx", Access::Ask),
        ("npm run x; rm -rf /", Access::Ask),
        ("npm run x && rm -rf /", Access::Ask),
        ("npm run x || rm -rf /", Access::Ask),
        ("npm run x | sh", Access::Ask),
        ("npm run x & rm -rf /", Access::Ask),
        ("npm run x\nrm -rf /", Access::Ask),
        ("npm run $(rm -rf /)", Access::Ask),
        ("npm run `rm -rf /`", Access::Ask),
        ("npm run \"$(rm -rf /)\"", Access::Ask),
        ("npm run <(rm -rf /)", Access::Ask),
        ("npm run ${x:-$(rm -rf /)}", Access::Ask),
        ("npm run ${x@P}", Access::Ask),
        ("npm run x > /etc/passwd", Access::Ask),
        ("npm run x >& /etc/passwd", Access::Ask),
        ("npm run x < /etc/shadow", Access::Ask),
        ("npm run $'\\'' ; rm -rf / #'", Access::Ask),
        ("npm run 'x", Access::Ask),
        ("(npm run x)", Access::Ask),
        ("LD_PRELOAD=/x.so npm run x", Access::Ask),
        ("PATH=/evil; npm run x", Access::Ask),
        ("npm run x # it's\nrm -rf /", Access::Ask),
        ("git status --short", Access::Ask),
        ("", Access::Ask),
    ] {
        assert_eq!(set.judge("Bash", &bash(command)).access, access, "{command}");
    }
    // Other tools are not what these rules are about.
    assert_eq!(set.judge("Write", &json!({"file_path": "/x"})).access, Access::Allow);
    assert_eq!(set.judge("Bash", &bash("ls")).rule.as_deref(), Some("not allowed by Bash(npm run *)"));
}

#[test]
fn a_denied_command_is_found_wherever_it_hides() {
    let set = set(json!({"rules": {"deny": ["Bash(rm *)", "Bash(git push:*)"], "allow": ["Bash"]}}));
    for (command, access) in [
        ("rm -rf /", Access::Deny),
        ("rm", Access::Deny),
        ("/bin/rm -rf /", Access::Deny),
        ("ls; rm x", Access::Deny),
        ("ls $(rm x)", Access::Deny),
        ("r\"m\" x", Access::Deny),
        ("'rm' x", Access::Deny),
        ("X=1 rm x", Access::Deny),
        ("sudo rm x", Access::Deny),
        ("timeout 5 rm x", Access::Deny),
        ("bash -c 'rm x'", Access::Deny),
        ("ls | xargs rm x", Access::Deny),
        ("find . -exec rm {} ;", Access::Deny),
        ("echo $'\\'' ; rm x #'", Access::Deny),
        ("git push origin main", Access::Deny),
        ("echo rm x", Access::Allow),
        ("rmdir x", Access::Allow),
        ("grep 'rm x' file", Access::Allow),
        ("git status", Access::Allow),
        // What cannot be told is asked about.
        ("$X -rf /", Access::Ask),
        ("curl x | sh", Access::Ask),
        ("echo 'open", Access::Ask),
    ] {
        assert_eq!(set.judge("Bash", &bash(command)).access, access, "{command}");
    }
}

#[test]
fn deny_comes_before_ask_and_ask_before_allow() {
    let set = set(json!({"rules": {
        "deny": ["Read(/workspace/secrets/**)", "WebFetch(domain:evil.example)"],
        "ask": ["Edit", "WebFetch(domain:*.example.com)", "mcp__mail__send"],
        "allow": ["Edit(src/**)", "WebFetch(domain:example.com)", "mcp__mail", "Read"],
    }}));
    let file = |path: &str| json!({"file_path": path});
    let url = |url: &str| json!({ "url": url });
    for (tool, input, access, rule) in [
        ("Read", file("/workspace/secrets/key"), Access::Deny, Some("Read(/workspace/secrets/**)")),
        ("Read", file("/workspace/src/../secrets/key"), Access::Deny, Some("Read(/workspace/secrets/**)")),
        ("Read", file("/workspace/src/a"), Access::Allow, None),
        ("Read", json!({"file_path": 7}), Access::Ask, Some("Read(/workspace/secrets/**)")),
        ("Grep", json!({"pattern": "x"}), Access::Deny, Some("Read(/workspace/secrets/**)")),
        ("Grep", json!({"pattern": "x", "path": "/workspace/src"}), Access::Allow, None),
        ("Glob", json!({"pattern": "**"}), Access::Allow, None),
        ("Bash", bash("cat secrets/key"), Access::Deny, Some("Read(/workspace/secrets/**)")),
        ("Bash", bash("wc < /workspace/secrets/key"), Access::Deny, Some("Read(/workspace/secrets/**)")),
        ("Bash", bash("ls src"), Access::Allow, None),
        ("Edit", file("/workspace/src/a"), Access::Ask, Some("Edit")),
        ("Write", file("/workspace/src/a"), Access::Ask, Some("Edit")),
        ("GenerateImage", file("/workspace/src/a.png"), Access::Ask, Some("Edit")),
        ("WebFetch", url("https://example.com/x"), Access::Allow, None),
        ("WebFetch", url("https://EXAMPLE.com./x"), Access::Allow, None),
        ("WebFetch", url("https://a.example.com"), Access::Ask, Some("WebFetch(domain:*.example.com)")),
        ("WebFetch", url("https://example.com@evil.example"), Access::Deny, Some("WebFetch(domain:evil.example)")),
        ("WebFetch", url("https://other.example"), Access::Ask, Some("not allowed by WebFetch(domain:example.com)")),
        ("WebFetch", url("no address"), Access::Ask, Some("WebFetch(domain:evil.example)")),
        ("mcp__mail__send", json!({}), Access::Ask, Some("mcp__mail__send")),
        ("mcp__mail__list", json!({}), Access::Allow, None),
        ("mcp__mailer__list", json!({}), Access::Allow, None),
        ("TodoWrite", json!({}), Access::Allow, None),
    ] {
        let verdict = set.judge(tool, &input);
        assert_eq!((verdict.access, verdict.rule.as_deref()), (access, rule), "{tool} {input}");
    }
}

#[test]
fn levels_decide_where_no_rule_does() {
    let set = set(json!({
        "version": 1,
        "subjectType": "agent",
        "defaultAccess": "ask_for_permission",
        "rings": {"ring_2": {"defaultAccess": "no_access"}},
        "actions": {
            "workspace_read": {"ringId": "ring_1", "access": "full_access"},
            "workspace_write": {"access": "read_only"},
            "external_read": {"ringId": "ring_2"},
            "send_email": {"access": "no_access"},
        },
        "rules": {"allow": ["Bash(ls *)"], "deny": [], "ask": []},
    }));
    for (tool, input, access, rule) in [
        ("Read", json!({"file_path": "/x"}), Access::Allow, None),
        ("Write", json!({"file_path": "/x"}), Access::Deny, Some("workspace_write: read_only")),
        ("GenerateImage", json!({"file_path": "/x"}), Access::Deny, Some("workspace_write: read_only")),
        ("WebFetch", json!({"url": "https://x.example"}), Access::Deny, Some("defaultAccess: ring")),
        ("Bash", bash("ls -l"), Access::Allow, None),
        ("Bash", bash("rm x"), Access::Ask, Some("defaultAccess: ask_for_permission")),
        ("mcp__a__b", json!({}), Access::Ask, Some("defaultAccess: ask_for_permission")),
        ("TodoWrite", json!({}), Access::Allow, None),
    ] {
        let verdict = set.judge(tool, &input);
        let rule = rule.map(|rule| if rule == "defaultAccess: ring" { "external_read: no_access" } else { rule });
        assert_eq!((verdict.access, verdict.rule.as_deref()), (access, rule), "{tool}");
    }
}

#[test]
fn files_of_resources_count() {
    let set = set(json!({"resources": {"files": {"rules": [
        {"id": "1", "path": "/workspace/locked/**", "access": "read_only"},
        {"path": "/workspace/hidden/**", "access": "no_access"},
    ]}}}));
    let of = |tool: &str, path: &str| set.judge(tool, &json!({"file_path": path})).access;
    assert_eq!(of("Write", "/workspace/locked/a"), Access::Deny);
    assert_eq!(of("Read", "/workspace/locked/a"), Access::Allow);
    assert_eq!(of("Read", "/workspace/hidden/a"), Access::Deny);
}

#[test]
fn a_second_set_only_narrows() {
    let agent = set(json!({"rules": {"deny": ["Bash(rm *)"], "ask": ["Write"]}}));
    let message = set(json!({"rules": {"allow": ["Bash", "Write", "Read"], "deny": ["Read(/etc/**)"]}}));
    let sets = [agent, message];
    for (tool, input, access) in [
        ("Bash", bash("rm x"), Access::Deny),
        ("Bash", bash("ls"), Access::Allow),
        ("Write", json!({"file_path": "/workspace/x"}), Access::Ask),
        ("Read", json!({"file_path": "/etc/x"}), Access::Deny),
    ] {
        assert_eq!(judge(&sets, tool, &input).access, access, "{tool} {input}");
    }
}

#[test]
fn what_is_no_set_is_refused_by_what_is_wrong_with_it() {
    for (json, part) in [
        (json!({"rules": {"allow": ["Bash(ls"]}}), "the bracket is not closed"),
        (json!({"rules": {"deny": [""]}}), "begins with the name of a tool"),
        (json!({"rules": {"deny": ["Bash()"]}}), "the brackets are empty"),
        (json!({"rules": {"deny": ["WebFetch(example.com)"]}}), "domain:HOST"),
        (json!({"rules": {"deny": ["TodoWrite(x)"]}}), "takes no pattern"),
        (json!({"rules": {"denied": ["Bash"]}}), "unknown field `denied`"),
        (json!({"defaultAccess": "some"}), "unknown variant `some`"),
        (json!({"actions": {"local_shell": {"access": "never"}}}), "unknown variant `never`"),
        (json!("all"), "invalid type"),
    ] {
        let err = PermissionSet::parse(&json).expect_err("is no set").to_string();
        assert!(err.contains(part), "{json}: {err}");
    }
    assert_eq!(PermissionSet::ask_always().judge("Read", &json!({})).access, Access::Ask);
}
