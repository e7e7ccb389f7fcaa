//! Parts of files, versions of files, and pictures of files.

use std::io::Cursor;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Request, header},
};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use serde_json::json;

use super::Files;
use crate::app::{App, Reply};

impl Files {
    /// Asks for a file with these headers.
    async fn ask(&self, method: Method, rest: &str, headers: &[(&'static str, &str)]) -> Reply {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{rest}", self.path))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.app.key))
            .body(Body::empty())
            .expect("a valid request");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a value"));
        }
        self.app.send(request).await
    }
}

#[tokio::test]
async fn a_part_of_a_file_can_be_had() {
    let files = Files::start().await;
    files.upload(&[("file", Some("f.txt"), b"0123456789")]).await.ok();
    for (range, status, body, told) in [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=0-0,5-6", 200, "0123456789", None),
        ("nonsense", 200, "0123456789", None),
    ] {
        let reply = files.ask(Method::GET, "/f.txt", &[("range", range)]).await;
        assert_eq!((reply.status.as_u16(), reply.text()), (status, body), "{range}");
        assert_eq!(reply.headers.get("content-range").map(|value| value.to_str().expect("ASCII")), told, "{range}");
        assert_eq!(reply.header("content-length"), body.len().to_string());
        assert_eq!(reply.header("accept-ranges"), "bytes");
    }
    let reply = files.ask(Method::GET, "/download/f.txt", &[("range", "bytes=10-")]).await;
    reply.failed(416);
    assert_eq!(reply.header("content-range"), "bytes */10");
    let reply = files.ask(Method::HEAD, "/download/f.txt", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.body.len(), reply.header("content-length")), (200, 0, "10"));
    let reply = files.ask(Method::HEAD, "/f.txt", &[("range", "bytes=1-2")]).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-range")), (206, "bytes 1-2/10"));
    files.ask(Method::HEAD, "/nope", &[]).await.status.is_client_error().then_some(()).expect("is not there");
}

#[tokio::test]
async fn a_client_that_has_the_file_is_told_so_and_any_change_is_another_version() {
    let files = Files::start().await;
    files.upload(&[("file", Some("f.txt"), b"one")]).await.ok();
    let first = files.ask(Method::GET, "/f.txt", &[]).await;
    let (etag, modified) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    for headers in [&[("if-none-match", &*etag)][..], &[("if-modified-since", &*modified)]] {
        let reply = files.ask(Method::GET, "/f.txt", headers).await;
        assert_eq!((reply.status.as_u16(), reply.body.len(), reply.header("etag")), (304, 0, &*etag));
    }
    // Of the same size, and with the time of change set back by whoever wrote it.
    let path = files.on_disk("f.txt");
    std::fs::write(&path, "two").expect("writes");
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
    std::fs::File::options().write(true).open(&path).expect("opens").set_modified(time).expect("sets");
    let reply = files.ask(Method::GET, "/f.txt", &[("if-none-match", &etag)]).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "two"));
    let parts = [("range", "bytes=1-1"), ("if-range", &*etag)];
    assert_eq!(files.ask(Method::GET, "/f.txt", &parts).await.text(), "two");
    let parts = [("range", "bytes=1-1"), ("if-range", reply.header("etag"))];
    assert_eq!(files.ask(Method::GET, "/f.txt", &parts).await.text(), "w");
    files.ask(Method::GET, "/f.txt", &[("if-match", &etag)]).await.failed(412);
}

#[tokio::test]
async fn images_have_thumbnails_and_nothing_else_has() {
    let files = Files::start().await;
    let encode = |image: DynamicImage, format| {
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).expect("encodes");
        bytes
    };
    let opaque = || DynamicImage::from(RgbImage::from_pixel(600, 300, Rgb([200, 10, 10])));
    let clear = DynamicImage::from(RgbaImage::from_pixel(30, 60, Rgba([0, 0, 200, 128])));
    for (name, bytes, query, mime, size) in [
        ("a.jpg", encode(opaque(), ImageFormat::Jpeg), "?w=100&h=100", "image/jpeg", (100, 50)),
        ("a.png", encode(opaque(), ImageFormat::Png), "", "image/jpeg", (256, 128)),
        ("a.webp", encode(opaque(), ImageFormat::WebP), "?w=60", "image/jpeg", (60, 30)),
        ("a.gif", encode(opaque(), ImageFormat::Gif), "?h=30", "image/png", (30, 15)),
        ("clear.png", encode(clear, ImageFormat::Png), "?w=1024&h=1024", "image/png", (30, 60)),
    ] {
        files.upload(&[("path", None, b"pictures"), ("file", Some(name), &bytes)]).await.ok();
        let road = format!("/thumbnail/pictures/{name}{query}");
        let reply = files.ask(Method::GET, &road, &[]).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, mime), "{name}: {:?}", reply.headers);
        let picture = image::load_from_memory(&reply.body).expect("is a picture");
        assert_eq!((picture.width(), picture.height()), size, "{name}");
        let again = files.ask(Method::GET, &road, &[("if-none-match", reply.header("etag"))]).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    }
    // A PNG whose header claims 60,000 by 60,000 pixels.
    let mut bomb = encode(opaque(), ImageFormat::Png);
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    files.upload(&[("file", Some("bomb.png"), &bomb)]).await.ok();
    files.get("/thumbnail/bomb.png").await.failed(413);
    files.upload(&[("file", Some("cut.png"), &encode(opaque(), ImageFormat::Png)[..100])]).await.ok();
    files.upload(&[("file", Some("text.png"), b"no image at all")]).await.ok();
    for name in ["cut.png", "text.png"] {
        files.get(&format!("/thumbnail/{name}")).await.failed(415);
    }
    files.get("/thumbnail/nope.png").await.failed(404);
    files.get("/thumbnail/pictures").await.failed(409);
    for query in ["w=0", "h=5000", "w=x"] {
        files.get(&format!("/thumbnail/text.png?{query}")).await.failed(400);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xedb8_8320 } else { sum >> 1 })
    })
}

#[tokio::test]
async fn files_are_sent_to_another_environment_of_the_project() {
    let app = App::start().await;
    let to = app.post("/environments", json!({"name": "to"})).await.ok()["environment"]["id"].clone();
    let files = Files::of(app).await;
    for (directory, name, content) in [("src/deep", "a.py", "new"), ("src", "b.py", "b"), ("", "top", "t")] {
        let parts = [("path", None, directory.as_bytes()), ("file", Some(name), content.as_bytes())];
        files.upload(&parts).await.ok();
    }
    std::os::unix::fs::symlink("deep/a.py", files.on_disk("src/link")).expect("links");
    std::os::unix::fs::symlink("/etc/passwd", files.on_disk("src/out")).expect("links");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(files.on_disk("src/b.py"), mode).expect("sets");
    let target = format!("/v1/environments/{}/files", to.as_str().expect("an id"));
    let there = Files { path: target, ..files };
    there.upload(&[("path", None, b"src/deep"), ("file", Some("a.py"), b"old")]).await.ok();
    there.upload(&[("path", None, b"src"), ("file", Some("mine"), b"stays")]).await.ok();
    let files = Files::of(there.app).await;
    let send = format!("{}/send", files.path);
    let sent = files.app.post(&send, json!({"destinationEnvironmentId": to, "paths": ["/src", "top"]})).await.ok();
    assert_eq!((&sent["success"], &sent["files"], &sent["size"]), (&json!(true), &json!(5), &json!(5)));
    assert_eq!(sent["paths"], json!(["src", "top"]));
    files.app.post(&send, json!({"destinationEnvironmentId": to, "paths": ["no"]})).await.failed(404);
    files.app.post(&send, json!({"destinationEnvironmentId": "env_no", "paths": ["src"]})).await.failed(404);
    files.app.post(&send, json!({"destinationEnvironmentId": to, "paths": ["../x"]})).await.failed(400);
    files.app.post(&send, json!({"destinationEnvironmentId": to, "paths": []})).await.failed(400);
    let (_, other) = files.app.another_project().await;
    let body = json!({"destinationEnvironmentId": to, "paths": ["src"]}).to_string();
    files.app.call_with(&other, Method::POST, &send, body).await.failed(404);
    let share = format!("{}/share-with-team", files.path);
    files.app.post(&share, json!({"teamId": "team_1", "paths": ["src"]})).await.failed(501);

    let there = Files { path: there.path, ..files };
    let names = json!(["src", "src/b.py", "src/deep", "src/deep/a.py", "src/link", "src/mine", "src/out", "top"]);
    assert_eq!(there.paths("").await, names);
    assert_eq!(there.get("/src/link").await.text(), "new");
    there.get("/src/out").await.failed(403);
    assert_eq!(there.get("/src/mine").await.text(), "stays");
    let meta = std::fs::metadata(there.on_disk("src/b.py")).expect("is there");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777, 0o755);
}
