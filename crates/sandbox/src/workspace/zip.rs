//! A directory as a zip archive, made while it is sent.
//!
//! The archive grows step by step, and only when somebody takes what the step before made: a slow client holds no thread,
//! one that goes away ends it, and memory holds one step's output and the list of names that a zip ends with. The blocking
//! `zip` crate is driven on blocking threads, a step at a time.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use ::zip::write::{SimpleFileOptions, StreamWriter};
use ::zip::{CompressionMethod, DateTime as ZipTime, ZipWriter};
use bytes::Bytes;
use chrono::{Datelike, Timelike};
use futures::{Stream, stream};
use rustix::fs::{FileType, Stat, readlinkat};

use super::read::open_regular;
use super::tree::Place;
use super::upload::is_temporary;
use super::walk::{Found, Order, Walk};
use super::{modified, on_blocking_thread, size};
use crate::Error;

/// A step ends when it has made this much.
const STEP_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// A third of the time of the usual level 6, for a few per cent more.
const LEVEL: i64 = 3;
/// The list of names is what memory grows with.
const MAX_ENTRIES: usize = 1_000_000;
const S_IFLNK: u32 = 0o120_000;

pub(super) fn stream(base: OwnedFd) -> impl Stream<Item = Result<Bytes, Error>> + Send {
    stream::try_unfold(Some(Archive::new(base)), |archive| async move {
        let Some(archive) = archive else { return Ok(None) };
        on_blocking_thread(move || {
            archive.step().map(Some).map_err(|err| Error::other("cannot make a zip archive", err))
        })
        .await
    })
}

/// An archive in the making.
struct Archive {
    walk: Walk,
    writer: ZipWriter<StreamWriter<Output>>,
    output: Output,
    names: HashSet<String>,
    /// The file being copied, and how much of it is still to come.
    file: Option<(File, u64)>,
    buffer: Vec<u8>,
}

impl Archive {
    fn new(base: OwnedFd) -> Self {
        let output = Output::default();
        Self {
            walk: Walk::new(base, Order::DepthFirst, 0),
            writer: ZipWriter::new_stream(output.clone()),
            output,
            names: HashSet::new(),
            file: None,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Gives the next piece, and the archive unless that was the last.
    fn step(mut self) -> io::Result<(Bytes, Option<Self>)> {
        while self.output.len() < STEP_BYTES {
            if let Some((file, left)) = &mut self.file {
                let want = READ_BYTES.min(usize::try_from(*left).unwrap_or(READ_BYTES));
                let read = file.read(&mut self.buffer[..want])?;
                *left -= read as u64;
                if read == 0 {
                    self.file = None;
                } else {
                    self.writer.write_all(&self.buffer[..read])?;
                }
                continue;
            }
            match self.walk.next() {
                Some(found) => self.add(found)?,
                None if self.walk.is_incomplete => {
                    return Err(io::Error::other("some of it is too deep or cannot be read"));
                }
                None => {
                    self.writer.finish()?;
                    return Ok((self.output.take(), None));
                }
            }
        }
        Ok((self.output.take(), Some(self)))
    }

    fn add(&mut self, found: Found) -> io::Result<()> {
        if self.names.len() >= MAX_ENTRIES {
            return Err(io::Error::other("there are too many files"));
        }
        match found.kind {
            FileType::Directory => {
                if let Some(name) = self.name(&found.path, "/") {
                    self.writer.add_directory(name, options(&found.stat))?;
                }
                self.walk.enter(found.path, 0);
            }
            FileType::RegularFile if !is_temporary(found.name()) => {
                let dir = self.dir()?;
                let place = Place { dir, name: Some(found.name().to_vec()) };
                match open_regular(&place) {
                    Ok(Some((file, stat))) => {
                        let Some(name) = self.name(&found.path, "") else { return Ok(()) };
                        let options = options(&stat).large_file(size(&stat) >= u64::from(u32::MAX));
                        self.writer.start_file(name, options)?;
                        self.file = Some((file, size(&stat)));
                    }
                    // Replaced or gone since it was found.
                    Ok(None) => {}
                    Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::ISDIR) => {}
                    Err(err) => return Err(err.into()),
                }
            }
            FileType::Symlink => {
                let Ok(target) = readlinkat(self.dir()?, found.name(), Vec::new()) else { return Ok(()) };
                let Some(name) = self.name(&found.path, "") else { return Ok(()) };
                let options = options(&found.stat)
                    .compression_method(CompressionMethod::Stored)
                    .compression_level(None)
                    .external_attributes((S_IFLNK | 0o777) << 16);
                self.writer.start_file(name, options)?;
                self.writer.write_all(target.as_bytes())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn dir(&self) -> io::Result<OwnedFd> {
        self.walk.dir().expect("a directory is open while things are found in it").try_clone()
    }

    /// Gives the name in the archive, in UTF-8; of two that differ only in bytes that are not, the second is numbered.
    fn name(&mut self, path: &[u8], end: &str) -> Option<String> {
        let name = String::from_utf8_lossy(path);
        let mut candidates =
            std::iter::once(format!("{name}{end}")).chain((2..100).map(|number| format!("{name}~{number}{end}")));
        candidates.find(|candidate| self.names.insert(candidate.clone()))
    }
}

fn options(stat: &Stat) -> SimpleFileOptions {
    let time = modified(stat).naive_utc();
    let time = ZipTime::from_date_and_time(
        u16::try_from(time.year()).unwrap_or(0),
        time.month() as u8,
        time.day() as u8,
        time.hour() as u8,
        time.minute() as u8,
        time.second() as u8,
    );
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(LEVEL))
        .unix_permissions(stat.st_mode)
        // A time before 1980 is one that a zip cannot tell.
        .last_modified_time(time.unwrap_or_default())
}

/// Where the archive is written to and taken from. Both ends belong to the one archive, and it is in one thread at a time.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
