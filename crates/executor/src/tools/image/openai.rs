//! OpenAI's images endpoint, which many servers imitate. Source: its API reference, "Images".

use reqwest::{
    Client, RequestBuilder,
    multipart::{Form, Part},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{DEFAULT_SIZE, Size, Wanted};

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    prompt: &'a str,
    n: u32,
    size: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_format: Option<&'static str>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Picture>,
}

#[derive(Deserialize)]
struct Picture {
    b64_json: Option<String>,
}

pub(super) fn request(
    http: &Client,
    url: &Url,
    key: Option<&SecretString>,
    model: &str,
    wanted: &Wanted,
) -> Result<RequestBuilder, String> {
    let base = url.as_str().trim_end_matches('/');
    let Size { width, height } = wanted.size.unwrap_or(DEFAULT_SIZE);
    let size = format!("{width}x{height}");
    // Its newer models always give base64 and refuse the field; older ones and others give an address without it.
    let response_format = (!model.starts_with("gpt-image")).then_some("b64_json");
    let request = match &wanted.source {
        None => {
            let body = Request { model, prompt: &wanted.prompt, n: 1, size, response_format };
            http.post(format!("{base}/images/generations")).json(&body)
        }
        Some(source) => {
            let extension = source.media_type.rsplit('/').next().unwrap_or("png");
            let picture = Part::bytes(source.bytes.clone()).file_name(format!("source.{extension}"));
            let picture = picture.mime_str(source.media_type).map_err(|err| err.to_string())?;
            let mut form = Form::new()
                .text("model", model.to_owned())
                .text("prompt", wanted.prompt.clone())
                .text("n", "1")
                .part("image", picture);
            if wanted.size.is_some() {
                form = form.text("size", size);
            }
            if let Some(format) = response_format {
                form = form.text("response_format", format);
            }
            http.post(format!("{base}/images/edits")).multipart(form)
        }
    };
    Ok(match key {
        Some(key) => request.bearer_auth(key.expose_secret()),
        None => request,
    })
}

/// Gives the picture in base64.
pub(super) fn read(body: &[u8]) -> Result<String, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|err| format!("OpenAI's answer cannot be read: {err}."))?;
    let picture = answer.data.into_iter().next().and_then(|picture| picture.b64_json);
    picture.ok_or_else(|| "OpenAI's answer holds no picture.".to_owned())
}
