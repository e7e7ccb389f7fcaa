//! A Stable Diffusion web UI with Automatic1111's API. Source: its wiki, "API".

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Client, RequestBuilder};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{DEFAULT_SIZE, Wanted};

/// How far a changed picture may go from its source.
const STRENGTH: f64 = 0.6;

#[derive(Serialize)]
struct Request<'a> {
    prompt: &'a str,
    width: u32,
    height: u32,
    batch_size: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_images: Option<[String; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denoising_strength: Option<f64>,
}

#[derive(Deserialize)]
struct Answer {
    images: Vec<String>,
}

pub(super) fn request(http: &Client, url: &Url, wanted: &Wanted) -> Result<RequestBuilder, String> {
    let base = url.as_str().trim_end_matches('/');
    let source = wanted.source.as_ref();
    // A change keeps the size of its source unless another is asked for.
    let of_source = source.and_then(|source| super::dimensions(&source.bytes));
    let size = wanted.size.or(of_source.map(|(width, height)| super::Size { width, height })).unwrap_or(DEFAULT_SIZE);
    let name = if source.is_some() { "img2img" } else { "txt2img" };
    let body = Request {
        prompt: &wanted.prompt,
        width: size.width,
        height: size.height,
        batch_size: 1,
        init_images: source.map(|source| [STANDARD.encode(&source.bytes)]),
        denoising_strength: source.map(|_| STRENGTH),
    };
    Ok(http.post(format!("{base}/sdapi/v1/{name}")).json(&body))
}

/// Gives the picture in base64, which some versions put behind the head of a `data:` URL.
pub(super) fn read(body: &[u8]) -> Result<String, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|err| format!("Automatic1111's answer cannot be read: {err}."))?;
    let picture = answer.images.into_iter().next().ok_or("Automatic1111's answer holds no picture.")?;
    Ok(picture.split_once("base64,").map_or(picture.clone(), |(_, data)| data.to_owned()))
}
