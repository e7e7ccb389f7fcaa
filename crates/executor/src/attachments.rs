//! The files of a message, as the model sees them: images and PDF files as blocks, others by their path.

use domain::{WorkspacePath, attachment::Attachment};
use sandbox::Workspace;
use tokio::io::AsyncReadExt;

use crate::tools::{ResultBlock, media};

/// What one message may show, in bytes. It stays in every later request, and a request has 32 MB.
const MAX_SHOWN_BYTES: u64 = 20 * 1024 * 1024;

/// Gives each attachment's blocks: a line that names it, and its content if it can be shown.
pub(crate) async fn show(workspace: &Workspace, attachments: &[Attachment]) -> Vec<ResultBlock> {
    let mut blocks = Vec::new();
    let mut left = MAX_SHOWN_BYTES;
    for attachment in attachments {
        let name = &attachment.filename;
        let (about, content) = match (&attachment.path, &attachment.url) {
            (Some(path), _) => match read(workspace, path, &mut left).await {
                Ok(Some((about, block))) => (format!("Attached: {name}, at /workspace/{path} ({about})"), Some(block)),
                Ok(None) => (format!("Attached: {name}, at /workspace/{path}"), None),
                Err(why) => (format!("Attached: {name}, at /workspace/{path}; it is not shown here: {why}"), None),
            },
            (None, Some(url)) => (format!("Attached: {name}, at {url}"), None),
            (None, None) => (format!("Attached: {name}"), None),
        };
        blocks.push(ResultBlock::Text(format!("<system-reminder>\n{about}\n</system-reminder>")));
        blocks.extend(content);
    }
    blocks
}

/// Reads a file that can be shown; `None` for one of another kind.
async fn read(workspace: &Workspace, path: &str, left: &mut u64) -> Result<Option<(String, ResultBlock)>, String> {
    let path = WorkspacePath::parse(path).map_err(|err| err.to_string())?;
    let open = workspace.open_file(&path).await.map_err(|err| err.to_string())?;
    let mut file = open.file;
    let mut bytes = Vec::new();
    let failed = |err: std::io::Error| format!("it cannot be read ({err})");
    (&mut file).take(media::START_BYTES).read_to_end(&mut bytes).await.map_err(failed)?;
    let Some(limit) = media::limit(&bytes) else { return Ok(None) };
    if open.size > limit.min(*left) {
        return Err("it is too large".to_owned());
    }
    // It may have grown since it was opened.
    file.take(limit).read_to_end(&mut bytes).await.map_err(failed)?;
    *left = left.saturating_sub(bytes.len() as u64);
    media::block(&bytes).transpose()
}
