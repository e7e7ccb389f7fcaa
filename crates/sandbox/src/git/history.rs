//! Commits.

use chrono::{DateTime, Utc};

use super::{Author, Error, Repository};

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub hash: String,
    pub short_hash: String,
    pub author: Author,
    pub date: DateTime<Utc>,
    /// All of it, the title in the first line.
    pub message: String,
}

const FIELDS: usize = 6;

impl Repository {
    /// Lists the newest commits that the current one goes back to, newest first. None before the first commit.
    pub async fn commits(&self, limit: u32) -> Result<Vec<Commit>, Error> {
        if self.head().await?.is_none() {
            return Ok(Vec::new());
        }
        let limit = format!("--max-count={limit}");
        let args =
            ["log", "-z", "--no-show-signature", "--format=%H%x00%h%x00%an%x00%ae%x00%ct%x00%B", &limit, "HEAD", "--"];
        let output = self.ask(args).await?;
        Ok(parse(&output.stdout))
    }
}

fn parse(output: &[u8]) -> Vec<Commit> {
    let text = String::from_utf8_lossy(output);
    let fields: Vec<&str> = text.split('\0').collect();
    fields
        .chunks_exact(FIELDS)
        .map(|fields| Commit {
            hash: fields[0].to_owned(),
            short_hash: fields[1].to_owned(),
            author: Author { name: fields[2].to_owned(), email: fields[3].to_owned() },
            date: fields[4].parse().ok().and_then(|time| DateTime::from_timestamp(time, 0)).unwrap_or_default(),
            message: fields[5].trim_end().to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_may_hold_anything() {
        let commits = parse(b"aa\0a\0Ann\0a@b\x000\0Title\n\nbody | x\n\0bb\0b\0Bo <x>\0b@b\x001\0\0");
        assert_eq!(commits.len(), 2);
        assert_eq!(commits[0].message, "Title\n\nbody | x");
        assert_eq!((commits[1].author.name.as_str(), commits[1].message.as_str()), ("Bo <x>", ""));
        assert_eq!(commits[1].date.timestamp(), 1);
    }
}
