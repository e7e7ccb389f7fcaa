//! Work that is done to its end, whatever the client does.

use crate::{Error, Result};

/// Does work in a task of its own: where half of it would be worse than all of it or nothing. It must end by itself.
pub(crate) async fn undisturbed<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.map_err(Error::internal)?
}
