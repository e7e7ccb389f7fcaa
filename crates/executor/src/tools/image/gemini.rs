//! Gemini's models that answer with pictures. Source: its API reference, "generateContent" and "Image generation".

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Size, Wanted};

/// The shapes it knows.
const RATIOS: [(u32, u32); 9] = [(1, 1), (2, 3), (3, 2), (3, 4), (4, 3), (4, 5), (5, 4), (9, 16), (16, 9)];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    contents: [Content<'a>; 1],
    generation_config: Config,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Part<'a> {
    Text(&'a str),
    #[serde(rename_all = "camelCase")]
    InlineData {
        mime_type: &'a str,
        data: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    response_modalities: [&'static str; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    image_config: Option<ImageConfig>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageConfig {
    aspect_ratio: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    content: Option<Given>,
}

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    parts: Vec<GivenPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenPart {
    text: Option<String>,
    inline_data: Option<InlineData>,
}

#[derive(Deserialize)]
struct InlineData {
    data: String,
}

pub(super) fn request(
    http: &Client,
    url: &Url,
    key: &SecretString,
    model: &str,
    wanted: &Wanted,
) -> Result<RequestBuilder, String> {
    let base = url.as_str().trim_end_matches('/');
    let mut parts = vec![Part::Text(&wanted.prompt)];
    parts.extend(
        wanted
            .source
            .as_ref()
            .map(|source| Part::InlineData { mime_type: source.media_type, data: STANDARD.encode(&source.bytes) }),
    );
    let image_config = wanted.size.map(|size| ImageConfig { aspect_ratio: nearest_ratio(size) });
    let generation_config = Config { response_modalities: ["TEXT", "IMAGE"], image_config };
    let body = Request { contents: [Content { parts }], generation_config };
    let request = http.post(format!("{base}/models/{model}:generateContent")).json(&body);
    Ok(request.header("x-goog-api-key", key.expose_secret()))
}

/// Gives the picture in base64. Where there is only text, that says why.
pub(super) fn read(body: &[u8]) -> Result<String, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|err| format!("Gemini's answer cannot be read: {err}."))?;
    let parts: Vec<_> = answer
        .candidates
        .into_iter()
        .filter_map(|candidate| candidate.content)
        .flat_map(|content| content.parts)
        .collect();
    let mut said = String::new();
    for part in parts {
        if let Some(picture) = part.inline_data {
            return Ok(picture.data);
        }
        said.push_str(&part.text.unwrap_or_default());
    }
    match said.trim() {
        "" => Err("Gemini gave no picture.".to_owned()),
        said => Err(format!("Gemini gave no picture, and said: {}", crate::tools::text::shorten(said, 500))),
    }
}

fn nearest_ratio(Size { width, height }: Size) -> String {
    let wanted = f64::from(width) / f64::from(height);
    let distance = |(width, height): &(u32, u32)| (f64::from(*width) / f64::from(*height) / wanted).ln().abs();
    let nearest = RATIOS.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let (width, height) = nearest.unwrap_or(&(1, 1));
    format!("{width}:{height}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_becomes_the_nearest_shape() {
        for (width, height, expected) in
            [(1024, 1024, "1:1"), (1536, 1024, "3:2"), (1920, 1080, "16:9"), (64, 4096, "9:16")]
        {
            assert_eq!(nearest_ratio(Size { width, height }), expected);
        }
    }
}
