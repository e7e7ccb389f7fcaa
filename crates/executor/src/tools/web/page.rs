//! From a page's bytes to text.
//!
//! A page is written by anybody. The converter walks it by recursion, so one nested a hundred thousand deep would end the
//! whole process: such pages only lose their tags, and the others are converted on a stack that holds what is let through.

use encoding_rs::{Encoding, UTF_8};
use url::Url;

/// The most text kept of a page, in characters.
const MAX_CHARS: usize = 1_000_000;

/// How far into a page its title is looked for, and how long it may be, in characters.
const MAX_HEAD_CHARS: usize = 100_000;
const MAX_TITLE_CHARS: usize = 300;

const MAX_DEPTH: usize = 400;
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Elements without text for a reader.
const SKIPPED: [&str; 10] =
    ["script", "style", "noscript", "template", "svg", "iframe", "head", "canvas", "object", "math"];

/// A fetched page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// Where it was in the end.
    pub url: Url,
    pub status: u16,
    pub content_type: String,
    /// Of the answer, before it became text.
    pub bytes: u64,
    pub title: Option<String>,
    pub text: String,
    /// BLAKE3 of the text.
    pub hash: String,
}

impl Page {
    pub(super) fn new(
        url: Url,
        status: u16,
        content_type: String,
        bytes: u64,
        title: Option<String>,
        text: String,
    ) -> Self {
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        Self { url, status, content_type, bytes, title, text, hash }
    }
}

/// Tells whether a content type is text.
pub(super) fn is_text(content_type: &str) -> bool {
    let kind = essence(content_type);
    let known = ["json", "xml", "javascript", "x-javascript", "ecmascript", "yaml", "x-yaml", "toml", "x-sh", "sql"];
    kind.starts_with("text/")
        || kind.strip_prefix("application/").is_some_and(|kind| {
            known.contains(&kind) || ["+json", "+xml", "+yaml"].iter().any(|suffix| kind.ends_with(suffix))
        })
}

/// Tells whether what has this content type is a PDF file, as far as that can be told before it is read.
pub(super) fn is_pdf(content_type: &str, url: &Url) -> bool {
    match essence(content_type).as_str() {
        "application/pdf" | "application/x-pdf" => true,
        // Stores of files often know no more.
        "application/octet-stream" | "binary/octet-stream" => url.path().to_ascii_lowercase().ends_with(".pdf"),
        _ => false,
    }
}

/// Cuts text to what is kept of a page.
pub(super) fn cap(text: String) -> String {
    crate::tools::text::cap(text, MAX_CHARS)
}

/// Decodes a page and turns HTML into Markdown; gives its title beside it, where it has one. Takes a while for a large one:
/// not for an async task.
pub(super) fn to_text(bytes: &[u8], content_type: &str) -> (Option<String>, String) {
    let (text, _, _) = encoding(bytes, content_type).decode(bytes);
    let is_html = matches!(essence(content_type).as_str(), "text/html" | "application/xhtml+xml");
    let title = if is_html { title(&text) } else { None };
    let text = if is_html { markdown(&text) } else { text.into_owned() };
    (title, cap(text))
}

/// Finds what an HTML page calls itself.
fn title(html: &str) -> Option<String> {
    let start: String = html.chars().take(MAX_HEAD_CHARS).collect();
    // Bytes of ASCII only are changed, so places stay where they are.
    let lower = start.to_ascii_lowercase();
    let tag = lower.find("<title")?;
    let begin = tag + lower[tag..].find('>')? + 1;
    let end = begin + lower[begin..].find("</title")?;
    let title = super::search::plain(&start[begin..end]);
    (!title.is_empty()).then(|| crate::tools::text::shorten(&title, MAX_TITLE_CHARS))
}

fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// By the header, else by what the page says of itself, else UTF-8.
fn encoding(bytes: &[u8], content_type: &str) -> &'static Encoding {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_ascii_lowercase();
    let label = |text: &str| {
        let (_, value) = text.split_once("charset=")?;
        let value = value.trim_start_matches(['"', '\'']);
        let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || "-_:.".contains(c))).unwrap_or(value.len());
        Encoding::for_label(&value.as_bytes()[..end])
    };
    label(&content_type.to_ascii_lowercase()).or_else(|| label(&start)).unwrap_or(UTF_8)
}

fn markdown(html: &str) -> String {
    if depth(html) > MAX_DEPTH {
        return without_tags(html);
    }
    let converted = std::thread::scope(|scope| {
        let options = htmd::options::Options { ul_bullet_spacing: 1, ol_number_spacing: 1, ..Default::default() };
        let convert = || {
            let converter = htmd::HtmlToMarkdown::builder().options(options).skip_tags(SKIPPED.to_vec()).build();
            converter.convert(html)
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, convert);
        thread.ok().and_then(|thread| thread.join().ok()).and_then(Result::ok)
    });
    converted.unwrap_or_else(|| without_tags(html))
}

/// Estimates from above how deep the elements are nested. Elements that end by themselves where the next one of their kind
/// begins are not counted: old pages never close them.
fn depth(html: &str) -> usize {
    const FLAT: [&str; 18] = [
        "p", "li", "dt", "dd", "br", "img", "hr", "input", "meta", "link", "area", "base", "col", "embed", "source",
        "track", "wbr", "!doctype",
    ];
    let (mut now, mut most) = (0usize, 0usize);
    for tag in html.split('<').skip(1) {
        let is_end = tag.starts_with('/');
        let name = tag.trim_start_matches('/');
        let len = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '!' && c != '-').unwrap_or(name.len());
        let name = name[..len].to_ascii_lowercase();
        if name.is_empty() || FLAT.contains(&name.as_str()) {
            continue;
        }
        if is_end {
            now = now.saturating_sub(1);
        } else {
            now += 1;
            most = most.max(now);
        }
    }
    most
}

fn without_tags(html: &str) -> String {
    let mut text = String::with_capacity(html.len() / 2);
    for (index, piece) in html.split('<').enumerate() {
        let shown = if index == 0 { piece } else { piece.split_once('>').map_or("", |(_, shown)| shown) };
        text.push_str(shown);
        if index > 0 && !text.ends_with(char::is_whitespace) {
            text.push(' ');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_text(bytes: &[u8], content_type: &str) -> String {
        super::to_text(bytes, content_type).1
    }

    #[test]
    fn a_page_is_called_what_it_calls_itself() {
        let titled = |html: &str| super::to_text(html.as_bytes(), "text/html").0;
        assert_eq!(titled("<head><TITLE lang=x>A &amp;\n B</TITLE>").as_deref(), Some("A & B"));
        assert_eq!(titled("<title>never closed"), None);
        assert_eq!(titled("<title></title>"), None);
        assert_eq!(super::to_text(b"<title>x</title>", "text/plain").0, None);
    }

    #[test]
    fn html_becomes_markdown() {
        let html = "<html><head><title>T</title><style>x{}</style></head><body><h1>Head</h1><script>evil()</script>\
                    <p>Some <b>bold</b> <a href=\"https://a.b/\">link</a><ul><li>one<li>two</ul></body></html>";
        let text = to_text(html.as_bytes(), "text/html; charset=utf-8");
        assert_eq!(text, "# Head\n\nSome **bold** [link](https://a.b/)\n\n* one\n* two");
    }

    #[test]
    fn other_text_stays_as_it_is_in_any_encoding() {
        assert_eq!(to_text(b"{\"a\": 1}", "application/json"), "{\"a\": 1}");
        assert_eq!(to_text(b"gr\xfcn", "text/plain; charset=iso-8859-1"), "grün");
        assert_eq!(to_text(b"<meta charset=\"windows-1252\"><p>gr\xfcn", "text/html"), "grün");
        assert_eq!(to_text("grün".as_bytes(), "text/plain"), "grün");
        assert_eq!(to_text(b"a\0b\xff", "text/plain"), "a\u{fffd}b\u{fffd}");
    }

    #[test]
    fn text_types_are_known() {
        for kind in
            ["text/html", "TEXT/plain; charset=x", "application/json", "application/ld+json", "application/atom+xml"]
        {
            assert!(is_text(kind), "{kind}");
        }
        for kind in ["image/png", "application/octet-stream", "application/pdf", "video/mp4", ""] {
            assert!(!is_text(kind), "{kind}");
        }
    }

    #[test]
    fn a_page_made_to_overflow_the_stack_does_not() {
        for unit in [
            "<div>",
            "<b>",
            "<blockquote>",
            "<font size=1>",
            "<table><td>",
            "<ul><li>",
            "<svg><td>",
            "<p><button>",
            "<a><p>",
        ] {
            let text = to_text((unit.repeat(100_000) + "deep text").as_bytes(), "text/html");
            assert!(text.ends_with("deep text") || text.ends_with("deep text "), "{unit}");
        }
        for unit in ["<p>", "<li>", "<dd>", "<br>", "<p>x</p>"] {
            let text = to_text((unit.repeat(20_000) + "flat text").as_bytes(), "text/html");
            assert!(text.contains("flat text"), "{unit}");
        }
    }

    #[test]
    fn the_deepest_page_that_is_converted_fits_on_the_stack() {
        for (start, end) in
            [("<div>", "</div>"), ("<blockquote>", "</blockquote>"), ("<b>", "</b>"), ("<ul><li>", "</li></ul>")]
        {
            let html = format!("{}deep text{}", start.repeat(MAX_DEPTH), end.repeat(MAX_DEPTH));
            assert!(to_text(html.as_bytes(), "text/html").contains("deep text"));
        }
    }
}
