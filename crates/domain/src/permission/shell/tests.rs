use super::*;

fn words(line: &str) -> Vec<String> {
    parse(line).commands.iter().map(|command| command.words.join(" ")).collect()
}

#[test]
fn simple_commands_are_found_and_plain_lines_known() {
    for (line, commands, is_plain) in [
        ("npm run test", &["npm run test"][..], true),
        ("a && b || c; d | e & f\ng", &["a", "b", "c", "d", "e", "f", "g"], true),
        ("echo 'a; b' \"c && d\" e\\;f", &["echo a; b c && d e;f"], true),
        ("echo $HOME 2>&1 >/dev/null", &["echo $HOME"], true),
        ("echo a > /etc/passwd", &["echo a"], false),
        ("echo $(rm -rf /)", &["rm -rf /", "echo $"], false),
        ("echo \"$(rm -rf /)\"", &["rm -rf /", "echo $"], false),
        ("echo `rm x`", &["rm x", "echo `"], false),
        ("echo '$(rm x)'", &["echo $(rm x)"], true),
        ("(cd x; rm y)", &["cd x", "rm y"], false),
        ("cat <(rm x)", &["cat", "rm x"], false),
        ("echo $'\\'' ; rm x #'", &["echo $'", "rm x"], false),
        ("echo a # it's\nrm x", &["echo a", "rm x"], false),
        ("cat <<'E'\nit's\nE\nrm x", &["cat", "rm x"], false),
        ("a \\\n b", &["a b"], true),
        ("", &[], true),
    ] {
        let parsed = parse(line);
        assert_eq!(
            (words(line), parsed.is_plain),
            (commands.iter().map(|s| (*s).to_owned()).collect(), is_plain),
            "{line}"
        );
        assert!(!parsed.is_broken, "{line}");
    }
}

#[test]
fn what_is_not_closed_is_broken() {
    for line in ["echo 'a", "echo \"a", "echo $(a", "echo `a", "cat <<E\n$(rm x)\nE"] {
        let parsed = parse(line);
        assert!(parsed.is_broken && !parsed.is_plain, "{line}");
    }
    let deep = "$(".repeat(50);
    assert!(parse(&deep).is_broken);
}

#[test]
fn commands_behind_others_are_found() {
    for line in [
        "sudo -u root rm x",
        "A=1 B=2 rm x",
        "env A=1 timeout 5 rm x",
        "bash -lc 'true; rm x'",
        "sh -c \"sh -c 'rm x'\"",
        "find . -exec rm x ;",
        "ls | xargs -n 1 rm x",
        "if true; then rm x; fi",
        "eval rm x",
    ] {
        let all = unwrap_all(parse(line).commands);
        assert!(all.iter().any(|command| command.words == ["rm", "x"]), "{line}: {all:?}");
    }
}

#[test]
fn a_command_whose_name_is_computed_is_opaque() {
    for (line, opaque) in
        [("$X a", true), ("curl x | sh", true), ("bash script.sh", false), ("r* x", true), ("ls *", false)]
    {
        assert_eq!(parse(line).commands.iter().any(is_opaque), opaque, "{line}");
    }
}
