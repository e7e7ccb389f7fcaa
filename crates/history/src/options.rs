//! What is remembered and what is not.

/// Settings of a history. They may change from one snapshot to the next.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files larger than this are known by size and time only: they can neither be read again nor brought back, and are
    /// left alone by whatever brings others back.
    pub max_file_bytes: u64,
    /// More files and directories than this are not remembered at all.
    pub max_entries: u64,
    /// Names of files and directories, anywhere, that are passed over: what tools make again by themselves.
    pub exclude: Vec<String>,
    /// How the names of unfinished files begin. They are passed over, and given to files that are being brought back.
    pub temporary_prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_file_bytes: 256 * 1024 * 1024,
            max_entries: 500_000,
            exclude: Vec::new(),
            temporary_prefix: ".atelier-upload-".to_owned(),
        }
    }
}

impl Options {
    pub(crate) fn passes_over(&self, name: &[u8]) -> bool {
        name.starts_with(self.temporary_prefix.as_bytes())
            || self.exclude.iter().any(|excluded| excluded.as_bytes() == name)
    }
}
