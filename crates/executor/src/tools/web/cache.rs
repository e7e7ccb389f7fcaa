//! Pages fetched lately in this run, so that reading on in one does not fetch it again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use url::Url;

use super::page::Page;

const LIFETIME: Duration = Duration::from_secs(15 * 60);
const MAX_PAGES: usize = 8;

/// Few pages, the one used longest ago goes first.
#[derive(Debug, Default)]
pub struct Cache {
    pages: Mutex<VecDeque<(Url, Instant, Arc<Page>)>>,
}

impl Cache {
    pub(super) fn find(&self, url: &Url, now: Instant) -> Option<Arc<Page>> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|(_, fetched_at, _)| now.duration_since(*fetched_at) < LIFETIME);
        let at = pages.iter().position(|(kept, ..)| kept == url)?;
        let entry = pages.remove(at)?;
        let page = Arc::clone(&entry.2);
        pages.push_back(entry);
        Some(page)
    }

    pub(super) fn keep(&self, url: Url, page: Page, now: Instant) -> Arc<Page> {
        let page = Arc::new(page);
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|(kept, ..)| *kept != url);
        if pages.len() >= MAX_PAGES {
            pages.pop_front();
        }
        pages.push_back((url, now, Arc::clone(&page)));
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(n: usize) -> Url {
        Url::parse(&format!("https://example.com/{n}")).unwrap()
    }

    fn page(n: usize) -> Page {
        Page::new(url(n), 200, "text/plain".into(), 1, None, n.to_string())
    }

    #[test]
    fn few_pages_are_kept_for_a_while() {
        let (cache, now) = (Cache::default(), Instant::now());
        (0..MAX_PAGES).for_each(|n| drop(cache.keep(url(n), page(n), now)));
        assert_eq!(cache.find(&url(0), now).unwrap().text, "0");
        cache.keep(url(100), page(100), now);
        assert!(cache.find(&url(1), now).is_none(), "the one used longest ago is gone");
        assert!(cache.find(&url(0), now).is_some());
        assert!(cache.find(&url(0), now + LIFETIME).is_none());
    }
}
