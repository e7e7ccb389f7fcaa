//! Glob and Grep.

use serde_json::json;

use crate::world::World;

async fn tree() -> World {
    let world = World::new().await;
    world
        .bash(
            "mkdir -p src/deep .git node_modules/x; git init -q . 2>/dev/null; echo node_modules > .gitignore
             echo 'fn main() { needle(); }' > src/main.rs; echo 'Needle in py' > src/deep/a.py; echo needle > .hidden
             printf 'one\\ntwo needle\\nthree\\nfour needle needle\\nfive\\n' > notes.txt; echo needle > node_modules/x/i.js
             echo needle > .git/secret; printf 'needle\\0' > bin; echo x > '!odd name.txt'
             i=1; for f in .gitignore bin '!odd name.txt' .hidden node_modules/x/i.js notes.txt src/deep/a.py src/main.rs; do
               touch -d \"2024-01-0$i\" \"$f\"; i=$((i+1)); done",
        )
        .await;
    world
}

#[tokio::test]
async fn glob_finds_the_newest_first() {
    let world = tree().await;
    for (input, expected) in [
        (json!({"pattern": "*.py"}), "/workspace/src/deep/a.py".to_owned()),
        (json!({"pattern": "**/*.{rs,py}"}), "/workspace/src/main.rs\n/workspace/src/deep/a.py".into()),
        (json!({"pattern": "src/*"}), "/workspace/src/main.rs".into()),
        (json!({"pattern": "*.rs", "path": "/workspace/src"}), "/workspace/src/main.rs".into()),
        (json!({"pattern": "*.rs", "path": "src"}), "/workspace/src/main.rs".into()),
        (json!({"pattern": "/workspace/src/**/*.py"}), "/workspace/src/deep/a.py".into()),
        (json!({"pattern": "/workspace/notes.txt"}), "/workspace/notes.txt".into()),
        (json!({"pattern": "!odd*"}), "/workspace/!odd name.txt".into()),
        (json!({"pattern": "*.js"}), "/workspace/node_modules/x/i.js".into()),
        (json!({"pattern": ".hidden"}), "/workspace/.hidden".into()),
        (json!({"pattern": "secret"}), "No files found".into()),
        (json!({"pattern": ".git/secret"}), "/workspace/.git/secret".into()),
        (json!({"pattern": "*.none"}), "No files found".into()),
        (json!({"pattern": "*", "path": "/workspace/none"}), "ERROR: Directory does not exist: /workspace/none".into()),
        (json!({"pattern": " "}), "ERROR: pattern is empty.".into()),
        (json!({}), "ERROR: The input of Glob is not valid: missing field `pattern`. Nothing was done.".into()),
    ] {
        assert_eq!(world.said("Glob", input.clone()).await, expected, "{input}");
    }
    let text = world.said("Glob", json!({"pattern": "[a"})).await;
    assert!(text.starts_with("ERROR: The search failed: ") && text.contains("unclosed character class"), "{text}");
    let text = world.said("Glob", json!({"pattern": "*", "path": "/workspace/notes.txt"})).await;
    assert!(text.starts_with("ERROR: "), "{text}");
    world.bash("mkdir many; cd many; seq -f 'f%g' 250 | xargs touch; cd ..").await;
    let text = world.said("Glob", json!({"pattern": "many/*"})).await;
    assert_eq!(text.lines().count(), 101);
    assert!(
        text.ends_with("[250 files found, the 100 newest are shown. Take a more specific pattern or path for others.]")
    );
}

#[tokio::test]
async fn grep_has_every_option() {
    let world = tree().await;
    let notes = "/workspace/notes.txt";
    for (input, expected) in [
        (json!({"pattern": "needle"}), "Found 3 files\n/workspace/src/main.rs\n/workspace/notes.txt\n/workspace/.hidden".to_owned()),
        (json!({"pattern": "needle", "-i": true, "glob": "*.py"}), "Found 1 file\n/workspace/src/deep/a.py".into()),
        (json!({"pattern": "needle", "type": "rust"}), "Found 1 file\n/workspace/src/main.rs".into()),
        (json!({"pattern": "needle", "glob": "*.{rs,txt}", "head_limit": 1}), "Found 2 files\n/workspace/src/main.rs\n[1 files are shown, from offset 0; there are more. Go on with offset 1.]".into()),
        (json!({"pattern": "needle", "glob": "*.rs, *.txt", "offset": 1}), "Found 2 files\n/workspace/notes.txt".into()),
        (json!({"pattern": "needle", "path": "node_modules"}), "Found 1 file\n/workspace/node_modules/x/i.js".into()),
        (json!({"pattern": "absent"}), "No files found".into()),
        (json!({"pattern": "absent", "output_mode": "content"}), "No matches found".into()),
        (json!({"pattern": "absent", "output_mode": "count"}), "No matches found".into()),
        (json!({"pattern": "needle", "path": notes, "output_mode": "content"}), "2:two needle\n4:four needle needle".into()),
        (json!({"pattern": "needle", "glob": "*.txt", "output_mode": "content"}), format!("{notes}:2:two needle\n{notes}:4:four needle needle")),
        (json!({"pattern": "needle", "path": notes, "output_mode": "content", "-n": false}), "two needle\nfour needle needle".into()),
        (json!({"pattern": "needle", "path": notes, "output_mode": "content", "-o": true}), "2:needle\n4:needle\n4:needle".into()),
        (json!({"pattern": "two", "path": notes, "output_mode": "content", "-A": 1}), "2:two needle\n3-three".into()),
        (json!({"pattern": "two", "path": notes, "output_mode": "content", "-B": 1}), "1-one\n2:two needle".into()),
        (json!({"pattern": "two", "path": notes, "output_mode": "content", "-C": 1}), "1-one\n2:two needle\n3-three".into()),
        (json!({"pattern": "two", "path": notes, "output_mode": "content", "context": "1"}), "1-one\n2:two needle\n3-three".into()),
        (json!({"pattern": "e", "path": notes, "output_mode": "content", "head_limit": 2, "offset": 1}), "2:two needle\n3:three\n[2 lines are shown, from offset 1; there are more. Go on with offset 3.]".into()),
        (json!({"pattern": "e", "path": notes, "output_mode": "content", "offset": 50}), "No matches beyond this offset".into()),
        (json!({"pattern": "two.*three", "path": notes, "output_mode": "content"}), "No matches found".into()),
        (json!({"pattern": "two.*three", "path": notes, "output_mode": "content", "multiline": true}), "2:two needle\n3:three".into()),
        (json!({"pattern": "needle", "output_mode": "count"}), format!("/workspace/.hidden:1\n{notes}:2\n/workspace/src/main.rs:1\n[4 matching lines in 3 files]")),
        (json!({"pattern": "needle", "path": notes, "output_mode": "count"}), format!("{notes}:2\n[2 matching lines in 1 files]")),
        (json!({"pattern": "-x"}), "No files found".into()),
        (json!({"pattern": "x", "path": "/none"}), "ERROR: Path does not exist: /none".into()),
        (json!({"pattern": ""}), "ERROR: pattern is empty.".into()),
        (json!({"pattern": "x", "output_mode": "lines"}), "ERROR: The input of Grep is not valid: unknown variant `lines`, expected one of `content`, `files_with_matches`, `count` in `output_mode`. Nothing was done.".into()),
        (json!({"pattern": "x", "-A": -1}), "ERROR: The input of Grep is not valid: expected a whole number that is not negative in `-A`. Nothing was done.".into()),
    ] {
        assert_eq!(world.said("Grep", input.clone()).await, expected, "{input}");
    }
    for mode in ["content", "files_with_matches", "count"] {
        let text = world.said("Grep", json!({"pattern": "(", "output_mode": mode})).await;
        assert!(text.starts_with("ERROR: The search failed: ") && text.contains("unclosed group"), "{text}");
        let text = world.said("Grep", json!({"pattern": "x", "type": "nonsense", "output_mode": mode})).await;
        assert!(text.contains("unrecognized file type: nonsense"), "{text}");
    }
}

#[tokio::test]
async fn a_search_that_finds_far_too_much_ends_early() {
    let world = World::new().await;
    world.bash("yes 'a needle of some length in a line' | head -n 2000000 > big").await;
    let started = std::time::Instant::now();
    let text = world.said("Grep", json!({"pattern": "needle", "output_mode": "content"})).await;
    println!("250 of 2,000,000 matches in {:?}", started.elapsed());
    assert_eq!(text.lines().count(), 251);
    let text = world.said("Grep", json!({"pattern": "needle", "output_mode": "content", "head_limit": 0})).await;
    assert!(text.chars().count() < 31_000 && text.contains("there are more"));
    world.bash("head -c 3000000 /dev/zero | tr '\\0' n > wide").await;
    let text = world.said("Grep", json!({"pattern": "nn", "path": "wide", "output_mode": "content"})).await;
    assert!(text.chars().count() < 1000, "{}", text.chars().count());
}
