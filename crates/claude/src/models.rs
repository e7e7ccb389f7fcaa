//! What the back end itself says about its models (`GET /v1/models`).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Client, Error};

/// One model as the back end lists it. Back ends that imitate the API give little beside the id.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelInfo {
    pub id: String,
    #[serde(default)]
    pub display_name: Option<String>,
    /// `active`, `deprecated`, `retired`.
    #[serde(default)]
    pub lifecycle: Option<String>,
    #[serde(default)]
    pub max_input_tokens: Option<u64>,
    /// The most tokens of one reply.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// RFC 3339.
    #[serde(default)]
    pub deprecated_at: Option<String>,
    #[serde(default)]
    pub retires_at: Option<String>,
    /// As sent; which thinking types and effort levels the model takes.
    #[serde(default)]
    pub capabilities: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<ModelInfo>,
    #[serde(default)]
    has_more: bool,
    last_id: Option<String>,
}

/// More pages than any back end has: a server whose `has_more` never ends does not hold us.
const MAX_PAGES: usize = 50;

impl Client {
    /// Lists the models of the back end, all pages. Retries like the official clients, but briefly, since it runs at start.
    /// # Errors
    /// `Status` with 404 on back ends without this route.
    pub async fn list_models(&self) -> Result<Vec<ModelInfo>, Error> {
        let mut models = Vec::new();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut url = self.endpoint("models");
            url.query_pairs_mut().append_pair("limit", "1000");
            if let Some(after) = &after {
                url.query_pairs_mut().append_pair("after_id", after);
            }
            let body = self.get(url).await?;
            let page: Page = serde_json::from_slice(&body)
                .map_err(|err| Error::protocol(format!("the list of models is not as the API defines it ({err})")))?;
            models.extend(page.data);
            match page.last_id {
                Some(last) if page.has_more && after.as_ref() != Some(&last) => after = Some(last),
                _ => break,
            }
        }
        Ok(models)
    }
}
