//! What differs, file by file.
//!
//! One command gives the counts (NUL-separated) and then the patches, in the same order. In a patch every line of a
//! file's content begins with a character of its own, so `diff --git` at a line's beginning always begins a file.

use super::{Error, Repository, command::Call, name};

/// What differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Sorted by path.
    pub files: Vec<FileDiff>,
    /// There is more than is shown.
    pub is_truncated: bool,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDiff {
    /// Relative to the repository's root.
    pub path: String,
    /// Lines; 0 for what is not text.
    pub additions: u64,
    pub deletions: u64,
    /// A unified diff.
    pub patch: String,
}

/// Compares with an index of its own, so that new files are seen without being staged.
const OF_TREE: &str = r#"
base=$(git rev-parse --verify --quiet 'HEAD^{commit}') || base=$(git hash-object -t tree /dev/null) || exit
index=$(git rev-parse --git-path index) || exit
copy=$(mktemp) || exit
trap 'rm -f "$copy" "$copy.lock"' EXIT
if [ -e "$index" ]; then cp -p "$index" "$copy"; else rm -f "$copy"; fi || exit
export GIT_INDEX_FILE="$copy"
git add --intent-to-add --all || exit
git diff "$@" "$base" --
"#;

const OPTIONS: [&str; 8] = [
    "--numstat",
    "--patch",
    "-z",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--no-color",
    "--ignore-submodules=dirty",
];

impl Repository {
    /// Tells what a commit of everything would change. Nothing is staged by it.
    pub async fn diff(&self) -> Result<Diff, Error> {
        let call = Call::script(&self.root, OF_TREE, OPTIONS);
        let output = self.git.run(call).await?.well()?;
        Ok(parse(&output.stdout, output.is_cut))
    }

    /// Tells what a commit changed; of a merge, beside its first parent.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn commit_diff(&self, hash: &str) -> Result<Diff, Error> {
        name::hash("sha", hash)?;
        let Some(hash) = self.line(["rev-parse", "--verify", "--quiet", &format!("{hash}^{{commit}}")]).await? else {
            return Err(Error::NotFound(format!("there is no commit '{hash}'")));
        };
        let args = ["diff-tree", "-r", "--root", "--no-commit-id", "-m", "--first-parent"];
        let output = self.ask(args.into_iter().chain(OPTIONS).chain([&*hash])).await?;
        Ok(parse(&output.stdout, output.is_cut))
    }
}

fn parse(output: &[u8], is_cut: bool) -> Diff {
    let mut diff = Diff { files: Vec::new(), is_truncated: is_cut };
    let mut rest = output;
    // `additions TAB deletions TAB path NUL`, for each file; an empty one ends them.
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let record = String::from_utf8_lossy(&rest[..end]);
        let mut fields = record.splitn(3, '\t');
        let (Some(additions), Some(deletions), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            rest = &rest[end + 1..];
            break;
        };
        let count = |field: &str| field.parse().unwrap_or(0);
        let (additions, deletions, path) = (count(additions), count(deletions), path.to_owned());
        rest = &rest[end + 1..];
        match diff.files.last_mut() {
            // A file in conflict, or one that became a link, is told twice.
            Some(last) if last.path == path => {
                last.additions += additions;
                last.deletions += deletions;
            }
            _ => diff.files.push(FileDiff { path, additions, deletions, patch: String::new() }),
        }
    }
    let text = String::from_utf8_lossy(rest);
    let mut files = diff.files.iter_mut();
    let mut current: Option<&mut FileDiff> = None;
    let mut header = "";
    for line in text.split_inclusive('\n') {
        if line.starts_with("diff --") && line != header {
            header = line;
            current = files.next();
        }
        if let Some(file) = &mut current {
            file.patch.push_str(line);
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_patches_come_together() {
        let output = b"1\t2\ta b\0-\t-\tbin\0\0diff --git a/a b b/a b\n@@ -1,2 +1 @@\n-diff --git a/x b/x\n+new\n-old\ndiff --git a/bin b/bin\nBinary files differ\n";
        let diff = parse(output, false);
        let shown: Vec<_> = diff
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.additions, file.deletions, file.patch.lines().count()))
            .collect();
        assert_eq!(shown, [("a b", 1, 2, 5), ("bin", 0, 0, 2)]);
        assert!(!diff.is_truncated);
        assert_eq!(parse(b"", false), Diff::default());
    }
}
