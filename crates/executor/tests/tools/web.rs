//! WebFetch: what it reaches, and what it never does.

use std::{collections::HashMap, sync::Arc};

use executor::tools::{Call, Context, ToolError, Tools, web};
use sandbox::{Network, Options, Sandboxes, Spec};
use serde_json::{json, value::RawValue};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

/// Runs a server on loopback that answers each path with what is written here, and counts what it was asked.
struct Server {
    base: String,
    asked: Arc<std::sync::Mutex<HashMap<String, usize>>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Server {
    async fn start(pages: Vec<(&'static str, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<std::sync::Mutex<HashMap<String, usize>>> = Arc::default();
        let pages: Arc<HashMap<_, _>> = Arc::new(pages.into_iter().collect());
        let counting = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (pages, counting) = (Arc::clone(&pages), Arc::clone(&counting));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut first = String::new();
                    stream.read_line(&mut first).await.ok();
                    let mut line = String::new();
                    while stream.read_line(&mut line).await.is_ok_and(|len| len > 2) {
                        line.clear();
                    }
                    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                    *counting.lock().unwrap().entry(path.clone()).or_default() += 1;
                    if path == "/slow" {
                        std::future::pending::<()>().await;
                    }
                    let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec();
                    let answer = pages.get(path.as_str()).unwrap_or(&missing);
                    stream.write_all(answer).await.ok();
                    stream.shutdown().await.ok();
                });
            }
        });
        Self { base, asked, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

fn answer(content_type: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body.as_ref()].concat()
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

/// A run's tools; no container is ever started.
async fn context(allowed: &[&str]) -> Context {
    let sandboxes = Sandboxes::connect(Options::default()).await.expect("an engine");
    let environment = domain::EnvironmentId::generate();
    let spec = Spec { environment, image: None, built: None, network: Network::Open, limits: None, env: Vec::new() };
    let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
    Context::new(sandboxes, spec, "run_test", Vec::new(), web::Client::new(allowed).unwrap())
}

async fn fetch(cx: &Context, input: serde_json::Value) -> String {
    let (input, stop) = (RawValue::from_string(input.to_string()).unwrap(), CancellationToken::new());
    let call = Call { name: "WebFetch", input: &input, stop: &stop, show: &|_| {} };
    match Tools::new(true).call(cx, call).await {
        Ok(outcome) => outcome.to_text(),
        Err(ToolError::ForModel(text)) => format!("ERROR: {text}"),
        Err(err) => panic!("{err:?}"),
    }
}

/// Addresses of this machine, of private networks and of clouds' metadata, in every way to write them that is known.
const PRIVATE: &str = "
http://localhost/ http://localhost:5432/ https://localhost/ http://LOCALHOST/ http://localhost./ http://foo.localhost/
http://127.0.0.1/ https://127.0.0.1/ http://127.0.0.1:8080/ http://127.1/ http://127.0.1/ http://127.127.127.127/
http://2130706433/ http://0x7f000001/ http://0x7f.0.0.1/ http://0x7f.1/ http://0177.0.0.1/ http://017700000001/
http://0177.0x0.0.1/ http://127.0.0.1./ http://127.000.000.001/ http://%31%32%37.0.0.1/ http://127%2e0%2e0%2e1/
http://１２７.０.０.１/ http://①②⑦.⓪.⓪.①/ http://127。0。0。1/ http://0/ http://0.0.0.0/ http://0x0/ http://00/ http://0.0.0.1/
http://10.0.0.1/ http://10.255.255.255/ http://10.1/ http://167772161/ http://0xa000001/ http://012.0.0.1/
http://172.16.0.1/ http://172.31.255.255/ http://2886729729/ http://0xac100001/ http://192.168.0.1/ http://192.168.1/
http://3232235521/ http://0xc0a80001/ http://0300.0250.0.1/ http://169.254.169.254/ http://169.254.169.254:80/latest/
http://2852039166/ http://0xa9fea9fe/ http://0xa9.0xfe.0xa9.0xfe/ http://0251.0376.0251.0376/ http://169.254.43518/
http://169.254.170.2/ http://169.254.0.1/ http://100.64.0.1/ http://100.100.100.200/ http://100.127.255.254/
http://168.63.129.16/ http://192.0.0.192/ http://192.0.0.1/ http://192.0.2.1/ http://198.18.0.1/ http://198.19.255.255/
http://198.51.100.7/ http://203.0.113.7/ http://192.88.99.1/ http://224.0.0.1/ http://239.255.255.250/ http://240.0.0.1/
http://255.255.255.255/ http://4294967295/ http://0xffffffff/
http://[::1]/ http://[::1]:8080/ http://[0:0:0:0:0:0:0:1]/ http://[0000::0001]/ http://[::]/ http://[::127.0.0.1]/
http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/ http://[::ffff:10.0.0.1]/ http://[::ffff:169.254.169.254]/
http://[::ffff:a9fe:a9fe]/ http://[0:0:0:0:0:ffff:127.0.0.1]/ http://[::ffff:0:127.0.0.1]/ http://[64:ff9b::127.0.0.1]/
http://[64:ff9b::7f00:1]/ http://[64:ff9b::10.0.0.1]/ http://[64:ff9b::a9fe:a9fe]/ http://[64:ff9b:1::1]/
http://[2002:7f00:1::]/ http://[2002:a00:1::]/ http://[2002:a9fe:a9fe::]/ http://[2001:0:7f00:1::]/ http://[2001:db8::1]/
http://[fe80::1]/ http://[fe80::a9fe:a9fe]/ http://[febf::1]/ http://[fec0::1]/ http://[fc00::1]/ http://[fd00::1]/
http://[fd00:ec2::254]/ http://[fd12:3456::1]/ http://[ff02::1]/ http://[ff05::2]/ http://[100::1]/ http://[3fff::1]/
http://[5f00::1]/ https://[::1]/ https://10.0.0.1/ https://169.254.169.254/
";

/// What is refused for its form, before anything is looked up.
const WRONG: [(&str, &str); 19] = [
    ("", "url is not valid"),
    ("example.com", "url is not valid"),
    ("/etc/passwd", "url is not valid"),
    ("http://", "url is not valid"),
    ("http://[::1", "url is not valid"),
    ("http://1.2.3.4.5.6.7/", "url is not valid"),
    ("http://256.256.256.256/", "url is not valid"),
    ("http://0x100000000/", "url is not valid"),
    ("http://[fe80::1%25eth0]/", "url is not valid"),
    ("http://a b/", "url is not valid"),
    ("file:///etc/passwd", "url must begin with http:// or https://, not file:."),
    ("ftp://example.com/", "url must begin with http:// or https://, not ftp:."),
    ("gopher://127.0.0.1:6379/_INFO", "url must begin with http:// or https://, not gopher:."),
    ("data:text/html,hi", "url must begin with http:// or https://, not data:."),
    ("javascript:alert(1)", "url must begin with http:// or https://, not javascript:."),
    ("unix:/var/run/docker.sock", "url must begin with http:// or https://, not unix:."),
    ("http://user@example.com/", "url holds a user name or password"),
    ("http://user:secret@example.com/", "url holds a user name or password"),
    ("http://example.com@127.0.0.1/", "url holds a user name or password"),
];

#[tokio::test]
async fn no_private_address_is_reached_however_it_is_written() {
    let cx = context(&[]).await;
    let urls: Vec<_> = PRIVATE.split_whitespace().collect();
    assert!(urls.len() >= 100, "{}", urls.len());
    for url in urls {
        let text = fetch(&cx, json!({"url": url, "prompt": "x"})).await;
        let is_refused =
            text.contains(" is not on the public internet: WebFetch reaches no private or local addresses.");
        // Whether these names lead anywhere depends on the machine.
        let is_unknown = url.contains("localhost") && text.contains("failed to lookup address information");
        assert!(is_refused || is_unknown, "{url}: {text}");
    }
    for (url, expected) in WRONG {
        let text = fetch(&cx, json!({"url": url})).await;
        assert!(text.starts_with(&format!("ERROR: {expected}")), "{url}: {text}");
    }
    let text = fetch(&cx, json!({"url": "http://localhost:5432/"})).await;
    assert!(text.starts_with("ERROR: localhost is not on the public internet"), "{text}");
    let long = format!("https://example.com/{}", "x".repeat(2000));
    assert_eq!(fetch(&cx, json!({"url": long})).await, "ERROR: url is longer than 2000 characters.");
}

#[tokio::test]
async fn a_redirect_into_a_private_network_is_refused() {
    let targets = [
        "http://127.0.0.2/",
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.2]/",
        "//192.168.0.1/x",
        "http://0x7f000002/",
        "file:///etc/passwd",
        "http://user:pw@example.com/",
        "gopher://127.0.0.1/",
    ];
    let pages = targets.iter().enumerate().map(|(n, to)| (&*Box::leak(format!("/{n}").into_boxed_str()), redirect(to)));
    let server = Server::start(pages.collect()).await;
    // The operator allows the one address at which the test's server is.
    let cx = context(&["127.0.0.1"]).await;
    for (n, target) in targets.iter().enumerate() {
        let text = fetch(&cx, json!({"url": format!("{}/{n}", server.base)})).await;
        assert!(text.contains(" redirects to an address that is refused: "), "{target}: {text}");
    }
}

#[tokio::test]
async fn pages_come_as_text() {
    let long = "0123456789".repeat(25_000);
    let server = Server::start(vec![
        ("/html", answer("text/html; charset=utf-8", "<h1>Title</h1><p>Some <b>text</b>.</p><script>x()</script>")),
        ("/latin", answer("text/plain; charset=iso-8859-1", b"gr\xfcn")),
        ("/json", answer("application/json", "{\"a\":1}")),
        ("/empty", answer("text/html", "")),
        ("/long", answer("text/plain", &long)),
        ("/image", answer("image/png", "x")),
        ("/large", answer("text/plain", vec![b'x'; 11 * 1024 * 1024])),
        ("/claims", b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 99999999999\r\n\r\n".to_vec()),
        ("/hop", redirect("/html")),
        ("/loop", redirect("/loop")),
        ("/away", redirect("https://example.com/page")),
        ("/broken", b"nonsense".to_vec()),
    ])
    .await;
    let cx = context(&["127.0.0.1"]).await;
    let base = &server.base;
    let at = |path: &str| json!({"url": format!("{base}{path}"), "prompt": "What is there?"});
    for (path, expected) in [
        ("/html", format!("{base}/html (text/html; charset=utf-8, 58 bytes)\n\n# Title\n\nSome **text**.")),
        ("/latin", format!("{base}/latin (text/plain; charset=iso-8859-1, 4 bytes)\n\ngrün")),
        ("/json", format!("{base}/json (application/json, 7 bytes)\n\n{{\"a\":1}}")),
        ("/empty", format!("{base}/empty (text/html, 0 bytes)\n\n[The page has no text.]")),
        ("/hop", format!("{base}/html (text/html; charset=utf-8, 58 bytes)\n\n# Title\n\nSome **text**.")),
        ("/none", format!("ERROR: {base}/none answered 404 Not Found.")),
        ("/image", format!("ERROR: {base}/image is not text but image/png. Fetch it with curl in Bash.")),
        ("/large", format!("ERROR: {base}/large is larger than 10.0 MiB. Fetch it with curl in Bash.")),
        ("/claims", format!("ERROR: {base}/claims is larger than 10.0 MiB. Fetch it with curl in Bash.")),
        ("/loop", format!("ERROR: {base}/loop redirects more than 10 times.")),
        (
            "/away",
            format!(
                "{base}/away redirects to another host (302), which was not followed. If that is where you want to go, call WebFetch with this url: https://example.com/page"
            ),
        ),
    ] {
        assert_eq!(fetch(&cx, at(path)).await, expected, "{path}");
    }
    let text = fetch(&cx, at("/broken")).await;
    assert!(text.starts_with(&format!("ERROR: {base}/broken cannot be fetched: ")), "{text}");

    let text = fetch(&cx, at("/long")).await;
    assert!(text.ends_with("[Characters 0 to 100000 of 250000 are shown; go on with offset 100000.]"));
    let text = fetch(&cx, json!({"url": format!("{base}/long#part"), "offset": 200_000})).await;
    assert!(text.ends_with("0123456789") && !text.contains("go on with"));
    let text = fetch(&cx, json!({"url": format!("{base}/long"), "offset": 250_000})).await;
    assert_eq!(text, "ERROR: The page has 250000 characters; there is nothing at offset 250000.");
    assert_eq!(server.asked("/long"), 1, "read on from the cache");
}

#[tokio::test]
async fn a_slow_page_can_be_cancelled() {
    let server = Server::start(Vec::new()).await;
    let cx = context(&["127.0.0.1"]).await;
    let input = RawValue::from_string(json!({"url": format!("{}/slow", server.base)}).to_string()).unwrap();
    let stop = CancellationToken::new();
    let call = Call { name: "WebFetch", input: &input, stop: &stop, show: &|_| {} };
    let cancel = async {
        crate::world::eventually(std::time::Duration::from_secs(5), async || server.asked("/slow") == 1).await;
        stop.cancel();
    };
    let (result, ()) = tokio::join!(Tools::new(true).call(&cx, call), cancel);
    assert!(matches!(result, Err(ToolError::Stopped)));
}

#[tokio::test]
async fn without_internet_there_is_no_such_tool() {
    let cx = context(&[]).await;
    let (input, stop) = (RawValue::from_string("{}".into()).unwrap(), CancellationToken::new());
    let call = Call { name: "WebFetch", input: &input, stop: &stop, show: &|_| {} };
    let err = Tools::new(false).call(&cx, call).await.unwrap_err().to_string();
    assert!(err.starts_with("There is no tool named \"WebFetch\"."), "{err}");
}

#[tokio::test]
async fn a_pdf_file_comes_as_text_by_a_program_of_its_own() {
    let server = Server::start(vec![
        ("/good.pdf", answer("application/pdf", "%PDF-good")),
        ("/bytes.PDF", answer("application/octet-stream", "%PDF-good")),
        ("/bytes", answer("application/octet-stream", "%PDF-good")),
        ("/half.pdf", answer("application/pdf", "%PDF-half")),
        ("/bad.pdf", answer("application/pdf; charset=binary", "%PDF-bad")),
        ("/scanned.pdf", answer("application/pdf", "%PDF-scanned")),
        ("/locked.pdf", answer("application/pdf", "%PDF-locked")),
        ("/none.pdf", answer("application/pdf", "<html>")),
    ])
    .await;
    let sandboxes = Sandboxes::connect(Options::default()).await.expect("an engine");
    let environment = domain::EnvironmentId::generate();
    let spec = Spec { environment, image: None, built: None, network: Network::Open, limits: None, env: Vec::new() };
    // Does what the real one does (its own tests are the server's), and would tell of anything that it was told of us.
    let script = r#"read -r file; case "$file" in
        %PDF-good) echo "text of a paper, $HOME$ATELIER_BIN" ;;
        %PDF-half) echo "page one"; kill -9 $$ ;;
        %PDF-scanned) echo; echo " " ;;
        %PDF-locked) exit 3 ;;
        *) exit 1 ;;
    esac"#;
    let reader = ["/bin/sh", "-c", script].map(Into::into).to_vec();
    let client = web::Client::new(vec!["127.0.0.1".parse().unwrap()]).unwrap();
    let cx = Context::new(sandboxes, spec, "run_test", Vec::new(), client.with_pdf_reader(reader));
    let base = &server.base;
    let at = |path: &str| json!({"url": format!("{base}{path}")});
    let otherwise = "Fetch it with curl in Bash, then look at it with Read.";
    for (path, expected) in [
        ("/good.pdf", format!("{base}/good.pdf (application/pdf, 9 bytes)\n\ntext of a paper, \n")),
        ("/bytes.PDF", format!("{base}/bytes.PDF (application/octet-stream, 9 bytes)\n\ntext of a paper, \n")),
        (
            "/bytes",
            format!("ERROR: {base}/bytes is not text but application/octet-stream. Fetch it with curl in Bash."),
        ),
        (
            "/half.pdf",
            format!(
                "{base}/half.pdf (application/pdf, 9 bytes)\n\npage one\n\n\n[The rest of the PDF file cannot be turned \
                 into text.]"
            ),
        ),
        ("/bad.pdf", format!("ERROR: {base}/bad.pdf is a PDF file that cannot be turned into text. {otherwise}")),
        (
            "/scanned.pdf",
            format!(
                "ERROR: {base}/scanned.pdf is a PDF file without text: its pages may be pictures of text. {otherwise}"
            ),
        ),
        ("/locked.pdf", format!("ERROR: {base}/locked.pdf is a PDF file that wants a password. {otherwise}")),
        ("/none.pdf", format!("ERROR: {base}/none.pdf says that it is a PDF file, but is none. {otherwise}")),
    ] {
        assert_eq!(fetch(&cx, at(path)).await, expected, "{path}");
    }
    // Without a reader it is what it was.
    let text = fetch(&context(&["127.0.0.1"]).await, at("/good.pdf")).await;
    assert!(text.contains("is not text but application/pdf"), "{text}");
}
