//! Files: what goes in comes out, by every road that clients take.

mod escapes;
mod memory;
mod parts;

use std::path::PathBuf;

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use serde_json::{Value, json};

use crate::app::{App, Reply, redacted};

const BOUNDARY: &str = "----atelier";

/// A field of a form: its name, the file's name if it is one, and its bytes.
type Part<'a> = (&'a str, Option<&'a str>, &'a [u8]);

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, filename, bytes) in parts {
        let filename = filename.map(|filename| format!("; filename=\"{filename}\"")).unwrap_or_default();
        body.extend(
            format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n").bytes(),
        );
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(format!("--{BOUNDARY}--\r\n").bytes());
    body
}

struct Files {
    app: App,
    path: String,
}

impl Files {
    async fn start() -> Self {
        Self::of(App::start().await).await
    }

    async fn of(app: App) -> Self {
        let path = format!("/v1/environments/{}/files", app.environment().await);
        Self { app, path }
    }

    async fn upload(&self, parts: &[Part<'_>]) -> Reply {
        let request = Request::post(format!("{}/upload", self.path))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.app.key))
            .header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(Body::from(form(parts)))
            .expect("a valid request");
        self.app.send(request).await
    }

    /// Gives where a path of the workspace is on this host.
    fn on_disk(&self, path: &str) -> PathBuf {
        let environment = self.path.split('/').nth(3).expect("the id");
        let root = self.app.database.directory().join("environments").join(environment).join("workspace");
        if path.is_empty() { root } else { root.join(path) }
    }

    async fn get(&self, rest: &str) -> Reply {
        self.app.get(&format!("{}{rest}", self.path)).await
    }

    async fn paths(&self, query: &str) -> Value {
        let list = self.get(query).await.ok();
        assert_eq!(list["files"], list["data"]);
        list["files"].as_array().expect("files").iter().map(|file| file["path"].clone()).collect()
    }
}

#[tokio::test]
async fn a_file_comes_back_whatever_the_order_of_the_form() {
    let files = Files::start().await;
    let content = b"print('hi')\n\0\xff";
    for (parts, path) in [
        (vec![("path", None, &b"src"[..]), ("file", Some("app.py"), content)], "src/app.py"),
        (vec![("file", Some("lib.py"), &content[..]), ("path", None, b"src")], "src/lib.py"),
        (vec![("file", Some("top.py"), &content[..])], "top.py"),
        (vec![("file", Some("undefined"), &content[..]), ("path", None, b"a/full.py")], "a/full.py"),
        (
            vec![("path", None, &b"/a/slash.py"[..]), ("other", None, b"x"), ("file", Some("blob"), content)],
            "a/slash.py",
        ),
    ] {
        let uploaded = files.upload(&parts).await.ok();
        assert_eq!((&uploaded["success"], &uploaded["path"]), (&json!(true), &json!(path)));
        assert_eq!(uploaded["filename"], path.rsplit('/').next().expect("a name"));
        assert_eq!(uploaded["size"], content.len());
        for road in ["/", "/download/"] {
            let reply = files.get(&format!("{road}{path}")).await;
            assert_eq!((reply.status.as_u16(), reply.body.as_slice()), (200, &content[..]));
        }
    }
    assert_eq!(
        files.paths("").await,
        json!(["a", "a/full.py", "a/slash.py", "src", "src/app.py", "src/lib.py", "top.py"])
    );
    assert_eq!(files.paths("?depth=1").await, json!(["a", "src", "top.py"]));
    assert_eq!(files.paths("?path=/src&recursive=1").await, json!(["src/app.py", "src/lib.py"]));
}

#[tokio::test]
async fn the_shapes_of_files_are_the_union_of_what_clients_read() {
    let files = Files::start().await;
    let uploaded = files.upload(&[("path", None, b"src"), ("file", Some("app.py"), b"x")]).await.ok();
    insta::assert_json_snapshot!("upload", redacted(uploaded));
    insta::assert_json_snapshot!("list", redacted(files.get("").await.ok()));
    let made = files.app.post(&format!("{}/mkdir", files.path), json!({"path": "a/b"})).await.ok();
    insta::assert_json_snapshot!("mkdir", redacted(made));
    let body = json!({"sourcePath": "/src/app.py", "destPath": "moved/app.py"});
    insta::assert_json_snapshot!("move", redacted(files.app.post(&format!("{}/move", files.path), body).await.ok()));
    insta::assert_json_snapshot!("delete", redacted(files.app.delete(&format!("{}/moved", files.path)).await.ok()));
    assert_eq!(files.paths("").await, json!(["a", "a/b", "src"]));
}

#[tokio::test]
async fn paths_are_decoded_by_segment_and_as_one() {
    let files = Files::start().await;
    files.upload(&[("path", None, "a b/ü#?".as_bytes()), ("file", Some("ß 1%.txt"), "grüß".as_bytes())]).await.ok();
    assert_eq!(files.paths("?path=a%20b").await, json!(["a b/ü#?", "a b/ü#?/ß 1%.txt"]));
    for path in ["/a%20b/%C3%BC%23%3F/%C3%9F%201%25.txt", "/a%20b%2F%C3%BC%23%3F%2F%C3%9F%201%25.txt"] {
        let reply = files.get(path).await;
        assert_eq!(reply.text(), "grüß");
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        assert!(reply.header("content-disposition").ends_with("filename*=UTF-8''%C3%9F%201%25.txt"));
    }
    files.app.delete(&format!("{}/a%20b%2F%C3%BC%23%3F", files.path)).await.ok();
    assert_eq!(files.paths("").await, json!(["a b"]));
    assert!(files.get("/%FF.txt").await.failed(400).starts_with("The path is not valid"));
}

#[tokio::test]
async fn a_page_of_a_workspace_is_not_run_in_the_origin_of_the_api() {
    let files = Files::start().await;
    for (name, kind, mime) in [
        ("page.html", "attachment", "text/html; charset=utf-8"),
        ("image.svg", "attachment", "image/svg+xml; charset=utf-8"),
        ("image.png", "inline", "image/png"),
        ("data.json", "inline", "application/json; charset=utf-8"),
        ("unknown", "attachment", "application/octet-stream"),
    ] {
        files.upload(&[("file", Some(name), b"x")]).await.ok();
        let reply = files.get(&format!("/{name}")).await;
        assert_eq!(reply.header("content-type"), mime);
        assert!(reply.header("content-disposition").starts_with(kind), "{name}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert_eq!(reply.header("content-security-policy"), "sandbox; default-src 'none'");
        let reply = files.get(&format!("/download/{name}?download=true")).await;
        assert!(reply.header("content-disposition").starts_with("attachment"), "{name}");
    }
}

#[tokio::test]
async fn a_directory_comes_as_an_archive() {
    let files = Files::start().await;
    files.upload(&[("path", None, b"src"), ("file", Some("app.py"), b"x")]).await.ok();
    let reply = files.get("/download/src").await;
    assert_eq!(reply.header("content-type"), "application/zip");
    assert!(reply.header("content-disposition").contains("filename=\"src.zip\""));
    assert!(reply.body.starts_with(b"PK"));
    assert!(reply.body.windows(6).any(|bytes| bytes == b"app.py"));
}

#[tokio::test]
async fn what_cannot_be_done_with_files_is_said_in_a_sentence() {
    let files = Files::start().await;
    files.upload(&[("path", None, b"dir"), ("file", Some("f"), b"x")]).await.ok();
    assert_eq!(files.get("/nope.txt").await.failed(404), "There is no file or directory 'nope.txt'");
    assert_eq!(files.get("?path=nope").await.failed(404), "There is no file or directory 'nope'");
    assert_eq!(files.get("?depth=-2").await.failed(400), "depth: must be -1 for all levels, or 0 or more");
    assert_eq!(files.get("/a/..%2F..%2Fetc/passwd").await.failed(400), "path: a path must not contain '..'");
    assert_eq!(files.get("/a%00b").await.failed(400), "path: a path must not contain a NUL byte");
    let long = format!("/{}", "x".repeat(1100));
    assert_eq!(files.get(&long).await.failed(400), "path: a path has at most 1024 bytes");
    let reply = files.upload(&[("path", None, b"dir")]).await;
    assert_eq!(reply.failed(400), "Missing required field: file");
    let reply = files.upload(&[("file", Some("undefined"), b"x")]).await;
    assert_eq!(reply.failed(400), "Missing required field: path");
    let reply = files.upload(&[("path", None, b"dir/f"), ("file", Some("g"), b"x")]).await;
    assert_eq!(reply.failed(409), "'dir/f/g' is not a directory");
    let reply = files.upload(&[("path", None, b"../x"), ("file", Some("g"), b"x")]).await;
    assert_eq!(reply.failed(400), "path: a path must not contain '..'");
    let upload = format!("{}/upload", files.path);
    let reply = files.app.post(&upload, json!({"path": "x"})).await;
    assert!(reply.failed(400).starts_with("The body must be a form"));
    let reply = files.app.post(&format!("{}/move", files.path), json!({"sourcePath": "no", "destPath": "b"})).await;
    assert_eq!(reply.failed(404), "There is no file or directory 'no'");
    let reply = files.app.post(&format!("{}/mkdir", files.path), json!({})).await;
    assert_eq!(reply.failed(400), "Missing required field: path");
    // Nothing of what failed is left, seen or unseen.
    assert_eq!(files.paths("").await, json!(["dir", "dir/f"]));
    let root = files.app.database.directory().join("environments").join(files.app.environment().await.as_str());
    let left: Vec<_> = std::fs::read_dir(root.join("workspace")).expect("a directory").collect();
    assert_eq!(left.len(), 1);
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_leaves_nothing() {
    let files = Files::of(App::start_with(|settings| settings.max_upload_bytes = 10).await).await;
    files.upload(&[("file", Some("fits"), b"0123456789")]).await.ok();
    let reply = files.upload(&[("file", Some("big"), b"0123456789a")]).await;
    assert_eq!(reply.failed(413), "The file is larger than 10 bytes");
    assert_eq!(files.paths("").await, json!(["fits"]));
    let reply = files.app.call(Method::GET, &format!("{}/big", files.path), Body::empty()).await;
    reply.failed(404);
}

#[tokio::test]
async fn a_file_larger_than_any_json_body_streams_both_ways() {
    let files = Files::start().await;
    let content: Vec<u8> = (0..12 * 1024 * 1024_u32).map(|number| (number % 251) as u8).collect();
    files.upload(&[("file", Some("big.bin"), &content), ("path", None, b"")]).await.ok();
    let reply = files.get("/big.bin").await;
    assert_eq!(reply.header("content-length"), content.len().to_string());
    assert!(reply.body == content, "the bytes are the same");
}

#[tokio::test]
async fn what_a_form_holds_beside_its_file_is_bounded() {
    let files = Files::start().await;
    let large = vec![b'x'; 65 * 1024];
    let file: Part<'_> = ("file", Some("a.txt"), b"content");
    files.upload(&[("note", None, &large), file]).await.failed(413);
    files.upload(&[("path", None, &large), file]).await.failed(413);
    let many: Vec<Part<'_>> = (0..2000).map(|_| -> Part<'_> { ("x", None, b"") }).chain([file]).collect();
    files.upload(&many).await.failed(413);
    assert_eq!(files.paths("").await, serde_json::json!([]), "nothing is left of them");
    files.upload(&[("note", None, b"a few words"), file]).await.ok();
    assert_eq!(files.paths("").await, serde_json::json!(["a.txt"]));
}
