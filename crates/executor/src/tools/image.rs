//! GenerateImage: pictures made by a provider of the operator's, put into the workspace.
//!
//! A provider is an adapter of a few lines in a file of its own: what it is asked, and where in its answer the picture is.
//! What comes back is looked at before it is written: it must be a picture, whatever the answer says.

mod automatic1111;
mod gemini;
mod openai;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{MicroUsd, event::Detail};
use futures::StreamExt;
use reqwest::RequestBuilder;
use sandbox::Error;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::{
    Context, Definition, Outcome, ToolError, context::Seen, for_model, input, media::Kind, path, read::explain, text,
};

pub(crate) const NAME: &str = "GenerateImage";

/// For a provider that only makes pictures.
pub(super) const MAKES: Definition = (
    NAME,
    "Makes a picture from a description and writes it into the workspace.

- prompt says what is to be seen: the subject, the style, the light, what text it holds.
- file_path must be absolute; end it in .png. A file that exists is replaced only if it was read in this run.
- size is WIDTHxHEIGHT; not every provider keeps to it. The result tells the real size. Look at the picture with Read.",
    r#"{"type":"object","properties":{"prompt":{"type":"string","minLength":1,"description":"What is to be seen"},"file_path":{"type":"string","description":"Absolute path of the picture to write"},"size":{"type":"string","description":"For example 1024x1024 (the default), 1536x1024"}},"required":["prompt","file_path"],"additionalProperties":false}"#,
);

/// For one that changes them, too.
pub(super) const CHANGES: Definition = (
    NAME,
    "Makes a picture from a description, or a new one from a picture that is there, and writes it into the workspace.

- prompt says what is to be seen: the subject, the style, the light, what text it holds. For a change it says what is to be \
changed and what is to stay.
- file_path must be absolute; end it in .png. A file that exists is replaced only if it was read in this run or is the source.
- source_path is the picture to be changed (PNG, JPEG or WebP, up to 20 MiB).
- size is WIDTHxHEIGHT; not every provider keeps to it. The result tells the real size. Look at the picture with Read.",
    r#"{"type":"object","properties":{"prompt":{"type":"string","minLength":1,"description":"What is to be seen"},"file_path":{"type":"string","description":"Absolute path of the picture to write"},"source_path":{"type":"string","description":"Absolute path of a picture to change"},"size":{"type":"string","description":"For example 1024x1024 (the default), 1536x1024"}},"required":["prompt","file_path"],"additionalProperties":false}"#,
);

const TIME_LIMIT: Duration = Duration::from_secs(240);
const MAX_PROMPT_CHARS: usize = 4000;
const MAX_SOURCE_BYTES: u64 = 20 * 1024 * 1024;
/// In base64, with what is around it.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
const SIDES: std::ops::RangeInclusive<u32> = 64..=4096;
const DEFAULT_SIZE: Size = Size { width: 1024, height: 1024 };

/// The provider of this server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    http: reqwest::Client,
    provider: Provider,
    ability: Ability,
    price: MicroUsd,
}

/// What a provider can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ability {
    /// Make pictures.
    Make,
    /// Change pictures that are there, too.
    Change,
}

/// Who makes pictures.
#[derive(Debug, Clone)]
pub enum Provider {
    /// OpenAI, or what imitates its images endpoint; `url` ends before `/images`.
    OpenAi { url: Url, key: Option<SecretString>, model: String },
    /// `url` ends before `/models`.
    Gemini { url: Url, key: SecretString, model: String },
    /// A Stable Diffusion web UI (Automatic1111 or one with its API), usually on the same machine.
    Automatic1111 { url: Url },
}

#[derive(Deserialize)]
struct Input {
    prompt: String,
    file_path: String,
    #[serde(default)]
    source_path: Option<String>,
    #[serde(default)]
    size: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    width: u32,
    height: u32,
}

/// What a provider is asked for.
struct Wanted {
    prompt: String,
    /// `None`: nobody said.
    size: Option<Size>,
    source: Option<Source>,
}

/// A picture to be changed.
struct Source {
    bytes: Vec<u8>,
    media_type: &'static str,
}

impl Images {
    /// `price_usd` is what one picture costs. What of them can be changed is the operator's word: one address does with
    /// one model what it does not with another.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(provider: Provider, ability: Ability, price_usd: f64) -> Result<Self, reqwest::Error> {
        // The operator named the provider, which may well be on a private network; a redirect would lead elsewhere.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIME_LIMIT)
            .user_agent(concat!("atelier/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let price = MicroUsd((price_usd * 1e6).round() as i64);
        Ok(Self(Arc::new(Parts { http, provider, ability, price })))
    }

    pub(crate) fn ability(&self) -> Ability {
        self.0.ability
    }

    /// Tells whether nothing leaves the operator's own machines.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.0.provider, Provider::Automatic1111 { .. })
    }

    async fn ask(&self, wanted: &Wanted) -> Result<Vec<u8>, String> {
        let http = &self.0.http;
        let (name, request) = match &self.0.provider {
            Provider::OpenAi { url, key, model } => ("OpenAI", openai::request(http, url, key.as_ref(), model, wanted)),
            Provider::Gemini { url, key, model } => ("Gemini", gemini::request(http, url, key, model, wanted)),
            Provider::Automatic1111 { url } => ("Automatic1111", automatic1111::request(http, url, wanted)),
        };
        let answer = fetch(name, request.map_err(|why| format!("The request cannot be made: {why}."))?).await?;
        let picture = match &self.0.provider {
            Provider::OpenAi { .. } => openai::read(&answer),
            Provider::Gemini { .. } => gemini::read(&answer),
            Provider::Automatic1111 { .. } => automatic1111::read(&answer),
        }?;
        STANDARD.decode(picture.trim()).map_err(|_| format!("The picture that {name} gave is not valid base64."))
    }
}

pub(super) async fn call(cx: &Context, input: &RawValue) -> Result<Outcome, ToolError> {
    let input: Input = input::parse(NAME, input)?;
    let Some(images) = &cx.images else { return Err(for_model("No provider of pictures is set up.")) };
    let prompt = input.prompt.trim().to_owned();
    if !(1..=MAX_PROMPT_CHARS).contains(&prompt.chars().count()) {
        return Err(for_model(format!("prompt must have 1 to {MAX_PROMPT_CHARS} characters.")));
    }
    let size = input.size.as_deref().map(parse_size).transpose()?;
    let path = path::absolute("file_path", &input.file_path, &cx.cwd())?;
    let source_path = match input.source_path.as_deref().filter(|path| !path.is_empty()) {
        Some(path) => Some(path::absolute("source_path", path, &cx.cwd())?),
        None => None,
    };
    if source_path.is_some() && images.ability() == Ability::Make {
        return Err(for_model(
            "The provider of this server makes pictures and cannot change one. No picture was made.",
        ));
    }
    let source = match &source_path {
        Some(path) => Some(read_source(cx, path).await?),
        None => None,
    };
    // Before anything is paid for.
    match cx.read_file(&path, 0, 1).await {
        Err(Error::NotFound(_)) => {}
        Err(err) => return Err(explain(err, &path)),
        Ok(_) if source_path.as_deref() == Some(path.as_str()) || cx.seen(&path).is_some() => {}
        Ok(_) => {
            return Err(for_model(format!(
                "{path} exists and was not read in this run. Choose another file_path, or read it first. No picture was made."
            )));
        }
    }
    let bytes = images.ask(&Wanted { prompt, size, source }).await.map_err(for_model)?;
    let kind = Kind::of(&bytes).filter(|kind| *kind != Kind::Pdf);
    let Some((kind, (width, height))) = kind.zip(dimensions(&bytes)) else {
        return Err(for_model("What the provider gave is not a picture. Nothing was written."));
    };
    let written = cx.write_file(&path, &bytes).await.map_err(|err| explain(err, &path))?;
    cx.note_seen(&path, Seen::whole(written.modified_ms, &bytes));
    let media_type = kind.media_type();
    let what = if written.created { "Made" } else { "Replaced" };
    let said = format!("{what} {path}: {media_type}, {width}x{height}, {}.", text::size(bytes.len() as u64));
    let detail = Detail::Image {
        path,
        is_new: written.created,
        media_type: media_type.to_owned(),
        width,
        height,
        bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
    };
    Ok(Outcome { cost: images.0.price, ..Outcome::text(said, Some(detail)) })
}

async fn read_source(cx: &Context, path: &str) -> Result<Source, ToolError> {
    let file = cx.read_file(path, 0, MAX_SOURCE_BYTES + 1).await.map_err(|err| explain(err, path))?;
    if file.size > MAX_SOURCE_BYTES {
        return Err(for_model(format!("{path} has more than {}.", text::size(MAX_SOURCE_BYTES))));
    }
    match Kind::of(&file.bytes) {
        Some(kind @ (Kind::Png | Kind::Jpeg | Kind::WebP)) => {
            Ok(Source { bytes: file.bytes.to_vec(), media_type: kind.media_type() })
        }
        Some(Kind::Gif | Kind::Pdf) | None => Err(for_model(format!("{path} is not a PNG, JPEG or WebP picture."))),
    }
}

fn parse_size(size: &str) -> Result<Size, ToolError> {
    let sides = size.split_once(['x', 'X', '×']);
    let sides = sides.and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)));
    match sides {
        Some((width, height)) if SIDES.contains(&width) && SIDES.contains(&height) => Ok(Size { width, height }),
        Some(_) | None => Err(for_model(format!(
            "size must be WIDTHxHEIGHT such as 1024x1024, each from {} to {}.",
            SIDES.start(),
            SIDES.end()
        ))),
    }
}

/// Gives width and height of a picture that is all there. Its pixels are never unpacked here.
fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    Kind::of(bytes)?.dimensions(bytes)
}

/// Asks a provider and gives the body of a good answer. A refusal's own words are told where they are plainly meant for
/// that: a prompt may have been refused.
async fn fetch(name: &'static str, request: RequestBuilder) -> Result<Vec<u8>, String> {
    let unreachable = |err: reqwest::Error| {
        let err = err.without_url();
        tracing::warn!(provider = name, error = &err as &dyn std::error::Error, "cannot make a picture");
        let why = if err.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        format!("The provider {name} {why}. No picture was made.")
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(unreachable)?;
        if body.len() + piece.len() > MAX_ANSWER_BYTES {
            return Err(format!("The answer of the provider {name} is too large."));
        }
        body.extend_from_slice(&piece);
    }
    if status.is_success() {
        return Ok(body);
    }
    tracing::warn!(provider = name, status = status.as_u16(), "a picture was refused");
    Err(match status.as_u16() {
        401 | 403 => {
            format!("The provider {name} refuses this server ({status}): its operator must look at the key.")
        }
        429 => format!("The provider {name} has had too many requests. Wait a while, or go on without the picture."),
        400 | 422 => format!("The provider {name} did not take the request: {}", refusal(&body)),
        _ => format!("The provider {name} answered {status}. No picture was made."),
    })
}

fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Answer {
        error: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(answer) => text::shorten(answer.error.message.trim(), 500),
        Err(_) => "it did not say why.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_sides() {
        assert_eq!(parse_size("1536 x 1024").ok(), Some(Size { width: 1536, height: 1024 }));
        for wrong in ["", "1024", "0x10", "x", "1024x99999", "-1x5", "large"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
