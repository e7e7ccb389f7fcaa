//! What comes with a message and needs more than a row: files, which go into the workspace, and secrets, which are sealed.
//!
//! A file sent as a `data:` URL gets a name made of its content, so a retried message writes the same file again.

use axum::http::StatusCode;
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{EnvironmentId, RunId, WorkspacePath, attachment::Attachment, environment::is_variable_name};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::runs::NewRun;
use utoipa::ToSchema;

use crate::{Api, Error, Result, check::Fields};

/// Files that one message may bring.
const MAX_ATTACHMENTS: usize = 20;
const MAX_SECRETS: usize = 100;
const MAX_NAME_CHARS: usize = 200;

/// A file that comes with a message. It is in the workspace already (`workspacePath`), or its content is in `data` (base64)
/// or `url` (`data:image/png;base64,…`), or `url` says where it can be fetched, which the model is told.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ThreadAttachmentReference)]
pub(crate) struct AttachmentInput {
    filename: Option<String>,
    url: Option<String>,
    #[serde(alias = "workspace_path", alias = "path")]
    workspace_path: Option<String>,
    /// Base64.
    #[serde(alias = "base64")]
    data: Option<String>,
    /// Kept and given back: `id`, `mimeType`, `size`, `type`, …
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// An environment variable whose value is a secret. It is given to the run's commands, shown nowhere, and gone with the
/// end of the run.
#[derive(Deserialize, ToSchema)]
pub(crate) struct SecretInput {
    #[schema(example = "API_TOKEN")]
    key: String,
    #[serde(deserialize_with = "secret")]
    #[schema(value_type = String)]
    value: SecretString,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

// Not derived: it would be one step from a log.
impl std::fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretInput").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a message brings along.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub attachments: Vec<AttachmentInput>,
    pub secrets: Vec<SecretInput>,
}

impl Extras {
    pub(crate) fn is_empty(&self) -> bool {
        self.attachments.is_empty() && self.secrets.is_empty()
    }

    /// Stores the files and seals the secrets for the run that the message starts in `environment`.
    ///
    /// # Errors
    /// 400 for a file that is nowhere or is not what it says, and for a secret that cannot be a variable.
    pub(crate) async fn add_to(self, api: &Api, environment: &EnvironmentId, run: &mut NewRun) -> Result<()> {
        let mut fields = Fields::default();
        for (n, secret) in self.secrets.iter().enumerate().filter(|(_, secret)| !is_variable_name(&secret.key)) {
            fields.refuse(format!("secrets[{n}].key"), format!("{:?} cannot name an environment variable", secret.key));
        }
        if self.secrets.len() > MAX_SECRETS {
            fields.refuse("secrets", format!("must be at most {MAX_SECRETS}"));
        }
        if self.attachments.len() > MAX_ATTACHMENTS {
            fields.refuse("attachments", format!("must be at most {MAX_ATTACHMENTS}"));
        }
        fields.finish()?;
        for (n, attachment) in self.attachments.into_iter().enumerate() {
            let field = format!("attachments[{n}]");
            run.options.attachments.push(attachment.keep(api, environment, &field).await?);
        }
        if !self.secrets.is_empty() {
            let id = run.id.get_or_insert_with(RunId::generate);
            // Of one name the last wins, as in any list of variables.
            let secrets: std::collections::BTreeMap<_, _> =
                self.secrets.into_iter().map(|secret| (secret.key, secret.value)).collect();
            let secrets: Vec<_> = secrets.into_iter().collect();
            run.secrets = api.store.seal_run_secrets(id, &secrets);
        }
        Ok(())
    }
}

impl AttachmentInput {
    async fn keep(self, api: &Api, environment: &EnvironmentId, field: &str) -> Result<Attachment> {
        let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let (url, workspace_path) = (given(self.url), given(self.workspace_path));
        let filename = given(self.filename)
            .or_else(|| workspace_path.as_deref().and_then(|path| path.rsplit('/').next()).map(str::to_owned))
            .unwrap_or_else(|| "attachment".to_owned());
        let mut reference = self.rest;
        reference.insert("filename".into(), filename.clone().into());
        let inline = given(self.data);
        let data = match (&inline, &url) {
            (Some(data), _) => Some(("data", decode_base64(data))),
            (None, Some(url)) => url.strip_prefix("data:").map(|data| ("url", decode(data))),
            (None, None) => None,
        };
        let (path, url) = match (workspace_path, data, url.as_deref()) {
            (Some(path), _, _) => {
                let field = format!("{field}.workspacePath");
                let within = path.strip_prefix("/workspace/").unwrap_or(&path);
                let path = WorkspacePath::parse(within).map_err(|err| Error::invalid_field(&field, err.to_string()))?;
                match api.sandboxes.workspace(environment)?.open_file(&path).await {
                    Ok(_) => {}
                    Err(sandbox::Error::NotFound(_)) => {
                        return Err(Error::invalid_field(field, format!("there is no file {path} in the workspace")));
                    }
                    Err(err) => return Err(err.into()),
                }
                (Some(path), None)
            }
            (None, Some((name, bytes)), _) => {
                let bytes = bytes.map_err(|why| Error::invalid_field(format!("{field}.{name}"), why))?;
                let path = write(api, environment, &filename, bytes.into()).await?;
                // What a client shows goes on working, and the content is not repeated in every list.
                let url = format!("/v1/environments/{environment}/files/download/{path}");
                reference.insert("url".into(), url.into());
                (Some(path), None)
            }
            (None, None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => {
                (None, Some(url.to_owned()))
            }
            (None, None, Some(_)) => {
                return Err(Error::invalid_field(format!("{field}.url"), "must begin with data:, https:// or http://"));
            }
            (None, None, None) => {
                let message = "needs a workspacePath, its content in data (base64) or in a url (data:…), or a url with its \
                               address";
                return Err(Error::invalid_field(field, message));
            }
        };
        if let Some(path) = &path {
            reference.insert("workspacePath".into(), path.to_string().into());
        }
        if let Some(url) = &url {
            reference.insert("url".into(), url.clone().into());
        }
        Ok(Attachment { filename, path: path.map(|path| path.to_string()), url, reference })
    }
}

/// Reads what follows `data:`.
fn decode(data: &str) -> std::result::Result<Vec<u8>, &'static str> {
    let (kind, content) = data.split_once(',').ok_or("has no comma after its type")?;
    if !kind.ends_with(";base64") {
        return Err("must be in base64: data:TYPE;base64,CONTENT");
    }
    decode_base64(content)
}

fn decode_base64(content: &str) -> std::result::Result<Vec<u8>, &'static str> {
    STANDARD.decode(content.trim()).map_err(|_| "is not valid base64")
}

/// Writes an attachment's content into the workspace.
async fn write(api: &Api, environment: &EnvironmentId, filename: &str, content: bytes::Bytes) -> Result<WorkspacePath> {
    let name: String = filename
        .chars()
        .map(|char| if char.is_alphanumeric() || matches!(char, '.' | '-' | '_' | ' ') { char } else { '_' })
        .take(MAX_NAME_CHARS)
        .collect();
    let hash: String = Sha256::digest(&content).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let path = format!("attachments/{hash}-{}", name.trim_start_matches('.').trim());
    let path = WorkspacePath::parse(&path)
        .map_err(|err| Error::new(StatusCode::BAD_REQUEST, format!("The attachment's name cannot be used: {err}")))?;
    let mut upload = api.sandboxes.workspace(environment)?.upload(&path).await?;
    upload.write(content).await?;
    upload.commit().await?;
    Ok(path)
}
