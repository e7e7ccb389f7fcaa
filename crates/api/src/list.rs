//! The envelope of lists.

use serde::Serialize;
use store::{Page, Paged};
use utoipa::ToSchema;

/// A part of a list, with the size of the whole.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T> {
    /// Always `list`.
    #[schema(example = "list")]
    pub object: &'static str,
    pub data: Vec<T>,
    /// There is more after this part.
    pub has_more: bool,
    /// The size of the whole list, whatever part was asked for.
    pub total_count: i64,
}

impl<T> List<T> {
    /// Makes the envelope of `paged`, which is the part `page`.
    pub(crate) fn new<U>(paged: Paged<U>, page: Page, view: impl FnMut(U) -> T) -> Self {
        let data: Vec<T> = paged.items.into_iter().map(view).collect();
        let end = page.offset.saturating_add(data.len() as i64);
        Self { object: "list", has_more: end < paged.total, data, total_count: paged.total }
    }
}
