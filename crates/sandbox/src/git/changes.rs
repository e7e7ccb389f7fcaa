//! Which files differ, as `git status --porcelain=v2 -z` tells it.

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
    Renamed,
    Untracked,
    /// A merge left it undecided.
    Conflicted,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Renamed => "renamed",
            Self::Untracked => "untracked",
            Self::Conflicted => "conflicted",
        }
    }

    fn of_letter(letter: u8) -> Option<Self> {
        match letter {
            b'.' | b' ' => None,
            b'A' | b'C' => Some(Self::Added),
            b'D' => Some(Self::Deleted),
            b'R' => Some(Self::Renamed),
            b'U' => Some(Self::Conflicted),
            b'?' => Some(Self::Untracked),
            _ => Some(Self::Modified),
        }
    }
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub kind: ChangeKind,
    /// Relative to the repository's root.
    pub path: String,
    /// What a renamed file was called.
    pub previous_path: Option<String>,
}

/// An entry of the output: the file in the index beside the last commit, and in the tree beside the index.
pub(super) struct Entry {
    pub(super) staged: Option<Change>,
    pub(super) unstaged: Option<Change>,
}

/// What the header lines say.
#[derive(Default)]
pub(super) struct Header {
    pub(super) upstream: bool,
    pub(super) ahead: u64,
}

/// Reads the output; of one that was cut off, what is whole.
pub(super) fn parse(output: &[u8]) -> (Header, Vec<Entry>) {
    let (mut header, mut entries) = (Header::default(), Vec::new());
    let mut records = output.split_inclusive(|byte| *byte == 0).filter_map(|record| record.strip_suffix(b"\0"));
    while let Some(record) = records.next() {
        let text = String::from_utf8_lossy(record);
        let change = |kind, path: &str, previous_path: Option<&str>| Change {
            kind,
            path: path.to_owned(),
            previous_path: previous_path.map(str::to_owned),
        };
        let Some((kind, rest)) = text.split_once(' ') else { continue };
        match kind {
            "#" if rest.starts_with("branch.upstream ") => header.upstream = true,
            "#" => {
                if let Some(counts) = rest.strip_prefix("branch.ab +") {
                    header.ahead = counts.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
                }
            }
            "?" => {
                entries.push(Entry { staged: None, unstaged: Some(change(ChangeKind::Untracked, rest, None)) });
            }
            // How many fields stand before the path, the first of which is XY.
            "1" | "2" | "u" => {
                let before = match kind {
                    "1" => 7,
                    "2" => 8,
                    _ => 9,
                };
                let previous =
                    if kind == "2" { records.next().map(|record| String::from_utf8_lossy(record)) } else { None };
                let mut fields = rest.splitn(before + 1, ' ');
                let (Some(letters), Some(path)) = (fields.next(), fields.nth(before - 1)) else { continue };
                let [x, y] = [0, 1].map(|at| letters.as_bytes().get(at).copied().unwrap_or(b'.'));
                if kind == "u" {
                    entries.push(Entry { staged: None, unstaged: Some(change(ChangeKind::Conflicted, path, None)) });
                    continue;
                }
                let as_seen = |letter| {
                    let kind = ChangeKind::of_letter(letter)?;
                    let previous = previous.as_deref().filter(|_| kind == ChangeKind::Renamed);
                    Some(change(kind, path, previous))
                };
                entries.push(Entry { staged: as_seen(x), unstaged: as_seen(y) });
            }
            _ => {}
        }
    }
    (header, entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_read() {
        let zero = "0".repeat(40);
        let text = [
            format!("# branch.oid {zero}"),
            "# branch.head main".into(),
            "# branch.upstream origin/main".into(),
            "# branch.ab +3 -1".into(),
            format!("1 M. N... 100644 100644 100644 {zero} {zero} a b.txt"),
            format!("1 .D N... 100644 100644 000000 {zero} {zero} gone"),
            format!("1 AM N... 000000 100644 100644 {zero} {zero} -new\n"),
            format!("2 R. N... 100644 100644 100644 {zero} {zero} R100 to"),
            "from here".into(),
            format!("u UU N... 100644 100644 100644 100644 {zero} {zero} {zero} both ways"),
            "? un tracked".into(),
        ];
        let (header, entries) = parse((text.join("\0") + "\0").as_bytes());
        assert!(header.upstream && header.ahead == 3);
        let shown: Vec<String> = entries
            .iter()
            .map(|Entry { staged, unstaged }| {
                let show = |change: &Option<Change>| {
                    change.as_ref().map_or("-".to_owned(), |change| {
                        let from = change.previous_path.as_ref().map(|from| format!(" from {from}"));
                        format!("{} {:?}{}", change.kind.as_str(), change.path, from.unwrap_or_default())
                    })
                };
                format!("{} | {}", show(staged), show(unstaged))
            })
            .collect();
        assert_eq!(
            shown,
            [
                r#"modified "a b.txt" | -"#,
                r#"- | deleted "gone""#,
                r#"added "-new\n" | modified "-new\n""#,
                r#"renamed "to" from from here | -"#,
                r#"- | conflicted "both ways""#,
                r#"- | untracked "un tracked""#,
            ]
        );
    }

    #[test]
    fn of_output_that_was_cut_the_whole_entries_count() {
        let (_, entries) = parse(b"? a\0? b\0? c-is-cut");
        assert_eq!(entries.len(), 2);
    }
}
