//! Read, Write and Edit.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::event::Detail;
use executor::tools::ResultBlock;
use serde_json::json;

use crate::world::World;

const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==";

#[tokio::test]
async fn read_is_answered_in_these_words() {
    let world = World::new().await;
    world.bash("seq 3000 > long; : > empty; printf 'a\\0b' > binary; mkdir dir; printf 'caf\\351\\n' > latin").await;
    world
        .bash("head -c 3000 /dev/zero | tr '\\0' x > wide; mkfifo pipe; ln -s long link; printf 'a\\r\\nb' > dos")
        .await;
    for (input, expected) in [
        (json!({"file_path": "/workspace/empty"}), "[The file exists but is empty.]".to_owned()),
        (json!({"file_path": "/workspace/long", "offset": 2, "limit": 1}), "     2\t2\n[The file goes on. Lines 2 to 2 are shown; read on with offset 3.]".into()),
        (json!({"file_path": "/workspace/link", "offset": "3000"}), "  3000\t3000".into()),
        (json!({"file_path": "/workspace/long", "offset": 3001}), "[The file has 3000 lines; there is no line 3001.]".into()),
        (json!({"file_path": "/workspace/latin"}), "     1\tcaf\u{fffd}".into()),
        (json!({"file_path": "/workspace/dos"}), "     1\ta\n     2\tb".into()),
        (json!({"file_path": "/workspace/wide"}), format!("     1\t{}… [line cut after 2000 characters]", "x".repeat(2000))),
        (json!({"file_path": "/workspace/../workspace/./empty"}), "[The file exists but is empty.]".into()),
        (json!({"file_path": "/workspace/none"}), "ERROR: File does not exist: /workspace/none".into()),
        (json!({"file_path": "/workspace/long/x"}), "ERROR: A part of the path /workspace/long/x is a file, not a directory.".into()),
        (json!({"file_path": "/workspace/dir"}), "ERROR: /workspace/dir is a directory, not a file. List it with Bash (ls) or find files with Glob.".into()),
        (json!({"file_path": "/workspace/binary"}), "ERROR: /workspace/binary is a binary file (3 bytes), which Read cannot show. Look into it with Bash (file, strings, xxd).".into()),
        (json!({"file_path": "long"}), r#"ERROR: file_path must be an absolute path, not "long". Did you mean /workspace/long?"#.into()),
        (json!({"file_path": ""}), "ERROR: file_path is empty.".into()),
        (json!({"file_path": "/x\0y"}), "ERROR: file_path holds a NUL character.".into()),
        (json!({"file_path": format!("/{}", "x".repeat(5000))}), "ERROR: file_path is longer than 4096 bytes.".into()),
        (json!({"file_path": "/workspace/long", "limit": 0}), "ERROR: limit must be at least 1.".into()),
        (json!({"path": "/workspace/long"}), "ERROR: The input of Read is not valid: missing field `file_path`. Nothing was done.".into()),
    ] {
        assert_eq!(world.said("Read", input.clone()).await, expected, "{input}");
    }
    let text = world.said("Read", json!({"file_path": "/workspace/long"})).await;
    assert!(text.starts_with("     1\t1\n     2\t2\n"));
    assert!(text.ends_with("  2000\t2000\n[The file goes on. Lines 1 to 2000 are shown; read on with offset 2001.]"));
    let text = world.said("Read", json!({"file_path": "/workspace/pipe"})).await;
    assert!(text.contains("not a regular file"), "{text}");
    let text = world.said("Read", json!({"file_path": "/proc/self/status"})).await;
    assert!(text.starts_with("     1\tName:"), "{text}");
}

#[tokio::test]
async fn a_line_deep_in_a_large_file_is_found() {
    let world = World::new().await;
    world.bash("seq 3000000 > big").await;
    let outcome = world.call("Read", json!({"file_path": "/workspace/big", "offset": 2_999_999})).await.unwrap();
    assert_eq!(outcome.to_text(), "2999999\t2999999\n3000000\t3000000");
    assert_eq!(outcome.detail, Some(Detail::FileRead { path: "/workspace/big".into(), lines: Some(2) }));
}

#[tokio::test]
async fn pictures_and_documents_are_shown() {
    let world = World::new().await;
    let sandbox = world.sandbox().await;
    let png = STANDARD.decode(PNG).unwrap();
    sandbox.write_file("/workspace/picture", &png).await.unwrap();
    sandbox.write_file("/workspace/cut.png", &png[..40]).await.unwrap();
    sandbox.write_file("/workspace/a.pdf", b"%PDF-1.4\n1 0 obj\nendobj\n%%EOF\n").await.unwrap();
    sandbox.write_file("/workspace/n.ipynb", br#"{"cells":[{"cell_type":"code","source":["1"]}]}"#).await.unwrap();
    world.bash("head -c 6000000 /dev/zero > pad; (head -c 60 picture; cat pad) > big.png").await;

    let outcome = world.call("Read", json!({"file_path": "/workspace/picture"})).await.unwrap();
    let about = ResultBlock::Text("/workspace/picture: PNG image, 2×3 pixels, 73 bytes".into());
    assert_eq!(outcome.content, [about, ResultBlock::Image { media_type: "image/png", data: PNG.into() }]);
    let outcome = world.call("Read", json!({"file_path": "/workspace/a.pdf"})).await.unwrap();
    assert!(matches!(&outcome.content[1], ResultBlock::Document { media_type: "application/pdf", .. }));
    for (input, expected) in [
        (
            json!({"file_path": "/workspace/cut.png"}),
            "ERROR: /workspace/cut.png cannot be shown: it begins like a PNG image but is damaged or not all there.",
        ),
        (
            json!({"file_path": "/workspace/big.png"}),
            "ERROR: /workspace/big.png is a PNG image of 5.7 MiB; at most 5.0 MiB can be shown. Make it smaller with Bash first.",
        ),
        (
            json!({"file_path": "/workspace/a.pdf", "pages": "1-2"}),
            "ERROR: Page ranges are not supported. Read the whole PDF without pages, or take the pages out with Bash first.",
        ),
        (json!({"file_path": "/workspace/n.ipynb"}), "<cell id=\"cell-0\" type=\"code\">\n1\n</cell>\n"),
    ] {
        assert_eq!(world.said("Read", input).await, expected);
    }
}

#[tokio::test]
async fn the_media_of_a_run_have_a_limit() {
    let world = World::new().await;
    world.bash("(echo %PDF-1.4; head -c 9000000 /dev/zero; echo; echo %%EOF) > a.pdf").await;
    for _ in 0..2 {
        assert!(world.call("Read", json!({"file_path": "/workspace/a.pdf"})).await.is_ok());
    }
    let text = world.said("Read", json!({"file_path": "/workspace/a.pdf"})).await;
    assert!(text.starts_with("ERROR: The images and PDF files read in this run have reached 20 MiB"), "{text}");
}

#[tokio::test]
async fn write_makes_files_and_replaces_only_what_was_seen() {
    let world = World::new().await;
    let write = |path: &str, content: &str| world.call("Write", json!({"file_path": path, "content": content}));
    let outcome = write("/workspace/a/b/c.txt", "one\ntwo\n").await.unwrap();
    assert_eq!(outcome.to_text(), "Created /workspace/a/b/c.txt.");
    assert_eq!(
        outcome.detail,
        Some(Detail::FileWrite {
            path: "/workspace/a/b/c.txt".into(),
            is_new: true,
            diff: "--- /dev/null\n+++ b/workspace/a/b/c.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n".into(),
            additions: 2,
            deletions: 0
        })
    );
    let outcome = write("/workspace/a/b/c.txt", "one\n2\n").await.unwrap();
    assert_eq!(outcome.to_text(), "Replaced the content of /workspace/a/b/c.txt.");
    let Some(Detail::FileWrite { is_new: false, diff, additions: 1, deletions: 1, .. }) = outcome.detail else {
        panic!("{:?}", outcome.detail)
    };
    assert!(diff.ends_with("@@ -1,2 +1,2 @@\n one\n-two\n+2\n"), "{diff}");

    world.bash("echo theirs > theirs; chmod 755 theirs; : > empty; mkdir dir").await;
    let said = |path: &str, content: &str| world.said("Write", json!({"file_path": path, "content": content}));
    let unread = "ERROR: /workspace/theirs exists and was not read in this run. Read it first, then write it. Nothing was written.";
    assert_eq!(said("/workspace/theirs", "mine").await, unread);
    assert_eq!(world.bash("cat theirs").await, "theirs");
    world.said("Read", json!({"file_path": "/workspace/theirs"})).await;
    world.bash("echo changed > theirs").await;
    let changed = "ERROR: /workspace/theirs has changed since it was last read, perhaps by a command or by the user. Read it again before you change it. Nothing was written.";
    assert_eq!(said("/workspace/theirs", "mine").await, changed);
    world.said("Read", json!({"file_path": "/workspace/theirs"})).await;
    world.bash("touch theirs").await;
    assert_eq!(said("/workspace/theirs", "mine").await, "Replaced the content of /workspace/theirs.");
    assert_eq!(world.bash("cat theirs; stat -c ' %a' theirs").await, "mine 755");
    assert_eq!(said("/workspace/empty", "x").await, "Replaced the content of /workspace/empty.");
    assert_eq!(
        said("/workspace/dir", "x").await,
        "ERROR: /workspace/dir is a directory, not a file. List it with Bash (ls) or find files with Glob."
    );
    assert_eq!(
        said("/workspace/empty/x", "x").await,
        "ERROR: A part of the path /workspace/empty/x is a file, not a directory."
    );
    assert_eq!(
        said("x", "x").await,
        r#"ERROR: file_path must be an absolute path, not "x". Did you mean /workspace/x?"#
    );
    assert_eq!(
        world.said("Write", json!({"file_path": "/workspace/x"})).await,
        "ERROR: The input of Write is not valid: missing field `content`. Nothing was done."
    );
    assert_eq!(said("/workspace/ünï 😀.txt", "ö").await, "Created /workspace/ünï 😀.txt.");
    assert_eq!(world.bash("cat 'ünï 😀.txt'").await, "ö");
}

#[tokio::test]
async fn edit_follows_its_rules() {
    let world = World::new().await;
    world.bash("printf 'a b a\\nlast\\n' > f; printf 'x\\r\\ny\\r\\n' > dos; printf '\\377' > bad; : > empty").await;
    let edit = |path: &str, old: &str, new: &str, all: bool| {
        let path = format!("/workspace/{path}");
        world.said("Edit", json!({"file_path": path, "old_string": old, "new_string": new, "replace_all": all}))
    };
    let quoted = |why: &str, old: &str| format!("ERROR: {why} (/workspace/f). Nothing was changed.\nold_string: {old}");
    // Not read before: allowed, as the text has to be there.
    assert_eq!(edit("f", "b", "B", false).await, "Replaced 1 occurrence in /workspace/f.");
    assert_eq!(edit("f", "zzz", "B", false).await, quoted("old_string does not stand in the file", "zzz"));
    assert_eq!(
        edit("f", "a", "A", false).await,
        quoted(
            "old_string stands in the file 3 times; give more of its surroundings to make it unique, or set replace_all",
            "a"
        )
    );
    assert_eq!(edit("f", "a", "A", true).await, "Replaced 3 occurrences in /workspace/f.");
    assert_eq!(world.bash("cat f").await, "A B A\nlAst");
    assert_eq!(
        edit("f", "x", "x", false).await,
        "ERROR: old_string and new_string are the same: there is nothing to change."
    );
    assert_eq!(edit("f", "", "x", false).await, quoted("old_string is empty, but the file is not", ""));
    assert_eq!(edit("none", "a", "b", false).await, "ERROR: File does not exist: /workspace/none");
    assert_eq!(edit("new", "", "made\n", false).await, "Created /workspace/new.");
    assert_eq!(edit("empty", "", "filled", false).await, "Replaced 1 occurrence in /workspace/empty.");
    assert_eq!(edit("dos", "x\ny", "1\n2", false).await, "Replaced 1 occurrence in /workspace/dos.");
    assert_eq!(world.bash("od -c dos | head -1").await, "0000000   1  \\r  \\n   2  \\r  \\n");
    assert_eq!(
        edit("bad", "a", "b", false).await,
        "ERROR: /workspace/bad is not UTF-8 text, so Edit would damage it. Change it with Bash."
    );
    world.bash("echo more >> f").await;
    assert_eq!(
        edit("f", "more", "x", false).await,
        "ERROR: /workspace/f has changed since it was last read, perhaps by a command or by the user. Read it again before you change it. Nothing was written."
    );
    world.said("Read", json!({"file_path": "/workspace/f"})).await;
    let outcome = world
        .call("Edit", json!({"file_path": "/workspace/f", "old_string": "more\n", "new_string": ""}))
        .await
        .unwrap();
    assert!(matches!(outcome.detail, Some(Detail::FileWrite { is_new: false, additions: 0, deletions: 1, .. })));
    world.bash("head -c 17000000 /dev/zero | tr '\\0' x > huge").await;
    assert_eq!(
        edit("huge", "y", "z", false).await,
        "ERROR: /workspace/huge has 16.2 MiB, more than Edit can take. Change it with Bash."
    );
}
