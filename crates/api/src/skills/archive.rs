//! A skill in a zip archive.
//!
//! Whoever made the archive may want to fill the disk, the memory, or a file elsewhere. So nothing is believed that it says
//! of itself: what unpacks is counted while it does, names are checked as they are, links and encrypted entries are
//! refused, and nothing is written to a disk here at all.

use std::io::{Cursor, Read};

use domain::skill::{self, DOCUMENT_NAME, MAX_FILES, MAX_FILES_BYTES, MAX_MARKDOWN_BYTES, SkillFile};
use zip::ZipArchive;

/// The largest archive, in bytes.
pub(super) const MAX_ARCHIVE_BYTES: usize = 16 * 1024 * 1024;

/// Entries beside files: directories, and what a Mac adds.
const MAX_ENTRIES: usize = 4 * MAX_FILES;

/// What an archive holds.
#[derive(Debug)]
pub(super) struct Unpacked {
    /// The SKILL.md.
    pub document: String,
    pub files: Vec<SkillFile>,
}

/// Reads an archive, whose skill may be in one directory of any name. Gives what is wrong as a sentence's end, after "the
/// archive".
pub(super) fn unpack(bytes: &[u8]) -> Result<Unpacked, String> {
    let mut archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|err| format!("is no zip archive that can be read: {err}"))?;
    if archive.len() > MAX_ENTRIES {
        return Err(format!("has more than {MAX_ENTRIES} entries"));
    }
    let mut files = Vec::new();
    let mut room = MAX_FILES_BYTES + MAX_MARKDOWN_BYTES;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(|err| format!("cannot be unpacked: {err}"))?;
        let name = entry.name().map_err(|_| "has a file whose name is not UTF-8".to_owned())?.into_owned();
        let shown: String = name.chars().take(100).collect();
        if entry.encrypted() {
            return Err(format!("holds {shown:?} encrypted"));
        }
        let mode = entry.unix_mode().unwrap_or(0);
        let kind = mode & 0o170_000;
        if entry.is_symlink() || !matches!(kind, 0 | 0o040_000 | 0o100_000) {
            return Err(format!("holds {shown:?}, which is neither a file nor a directory"));
        }
        if entry.is_dir() || name.starts_with("__MACOSX/") || name.ends_with(".DS_Store") {
            continue;
        }
        let mut content = Vec::new();
        // One byte more than there is room for tells that there is more.
        let read = (&mut entry).take(room as u64 + 1).read_to_end(&mut content);
        read.map_err(|err| format!("has a file {shown:?} that cannot be unpacked: {err}"))?;
        room =
            room.checked_sub(content.len()).ok_or_else(|| format!("unpacks to more than {MAX_FILES_BYTES} bytes"))?;
        files.push(SkillFile { path: name, content, language: None, is_executable: mode & 0o111 != 0 });
    }
    strip_wrapper(&mut files);
    let at = files.iter().position(|file| file.path == DOCUMENT_NAME);
    let document = files.remove(at.ok_or_else(|| format!("has no {DOCUMENT_NAME} at its top"))?);
    if document.content.len() > MAX_MARKDOWN_BYTES {
        return Err(format!("has a {DOCUMENT_NAME} of more than {MAX_MARKDOWN_BYTES} bytes"));
    }
    let document =
        String::from_utf8(document.content).map_err(|_| format!("has a {DOCUMENT_NAME} that is not UTF-8"))?;
    let sizes = files.iter().map(|file| (file.path.as_str(), file.content.len()));
    skill::check_files(sizes).map_err(|err| format!("cannot be taken: {err}"))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(Unpacked { document, files })
}

/// Takes away the one directory that everything is in, if that is so.
fn strip_wrapper(files: &mut [SkillFile]) {
    let Some((wrapper, _)) = files.first().and_then(|file| file.path.split_once('/')) else { return };
    let prefix = format!("{wrapper}/");
    // A skill's own SKILL.md is not in a directory.
    if matches!(wrapper, "" | "." | "..") || !files.iter().all(|file| file.path.starts_with(&prefix)) {
        return;
    }
    for file in files {
        file.path.drain(..prefix.len());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const TEXT: &[u8] = b"---\nname: a\n---\nBody";

    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            let mode = if name.ends_with(".sh") { 0o755 } else { 0o644 };
            writer.start_file(*name, SimpleFileOptions::default().unix_permissions(mode)).expect("starts");
            writer.write_all(content).expect("writes");
        }
        writer.finish().expect("finishes").into_inner()
    }

    #[test]
    fn a_skill_is_read_with_and_without_a_directory_around_it() {
        for prefix in ["", "my-skill/"] {
            let names = ["SKILL.md", "scripts/run.sh", "data.bin"].map(|name| format!("{prefix}{name}"));
            let [text, script, data] = &names;
            let bytes = zip(&[(text, TEXT), (script, b"#!/bin/sh"), (data, b"\xff\0"), ("__MACOSX/x", b"y")]);
            let unpacked = unpack(&bytes).expect("is a skill");
            assert_eq!(unpacked.document.as_bytes(), TEXT);
            let files: Vec<_> = unpacked
                .files
                .iter()
                .map(|file| (file.path.as_str(), file.content.as_slice(), file.is_executable))
                .collect();
            assert_eq!(files, [("data.bin", &b"\xff\0"[..], false), ("scripts/run.sh", b"#!/bin/sh", true)]);
        }
    }

    #[test]
    fn what_an_archive_may_not_hold_is_refused() {
        for name in ["../evil", "a/../../evil", "/etc/passwd", "a\\..\\b", "C:/x", "SKILL.md/x", "skill.md"] {
            let err = unpack(&zip(&[("SKILL.md", TEXT), (name, b"x")])).expect_err(name);
            assert!(err.contains("cannot be taken") || err.contains("cannot be unpacked"), "{name}: {err}");
        }
        assert!(unpack(&zip(&[("README.md", b"x")])).expect_err("no skill").contains("has no SKILL.md"));
        assert!(unpack(b"PK nothing").expect_err("no archive").starts_with("is no zip archive"));
        assert!(unpack(&zip(&[("SKILL.md", b"\xff")])).expect_err("no text").contains("not UTF-8"));
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.start_file("SKILL.md", SimpleFileOptions::default()).expect("starts");
        writer.write_all(TEXT).expect("writes");
        writer.add_symlink("link", "/etc/passwd", SimpleFileOptions::default()).expect("adds");
        let bytes = writer.finish().expect("finishes").into_inner();
        assert!(unpack(&bytes).expect_err("a link").contains("neither a file nor a directory"));
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; MAX_FILES_BYTES / 2];
        let bomb = zip(&[("SKILL.md", TEXT), ("a", &zeros), ("b", &zeros), ("c", &zeros), ("d", &zeros)]);
        assert!(bomb.len() < MAX_FILES_BYTES / 50, "{}", bomb.len());
        assert!(unpack(&bomb).expect_err("a bomb").contains("unpacks to more than"));
        let names: Vec<String> = (0..=MAX_ENTRIES).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert!(unpack(&zip(&many)).expect_err("many").contains("entries"));
    }
}
