//! A file of objects, written once.
//!
//! Layout: magic, the objects one after the other, the table (48 bytes an object, sorted by name), the number of objects,
//! the table's hash, magic. What a crash cut short has no right end and is not a pack; what is a pack is whole, for it got
//! its name after it was on the disk.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::{Error, Id};

const MAGIC: &[u8; 8] = b"atelier1";
const END: usize = 8 + Id::LEN + 8;
pub(crate) const SUFFIX: &str = ".pack";
/// How unfinished packs are named. Only the holder of the lock has one.
pub(crate) const UNFINISHED: &str = "unfinished-";

/// Objects are never larger: parts of files by construction, listings of directories by [`crate::Options::max_entries`].
const MAX_OBJECT_BYTES: u32 = 512 * 1024 * 1024;

/// Where an object is in its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: Id,
    offset: u64,
    /// Bytes on the disk; as many as `length` if the object did not get smaller.
    pub(crate) stored: u32,
    length: u32,
}

impl Record {
    const LEN: usize = Id::LEN + 16;

    fn write(&self, table: &mut Vec<u8>) {
        table.extend_from_slice(self.id.as_bytes());
        table.extend_from_slice(&self.offset.to_le_bytes());
        table.extend_from_slice(&self.stored.to_le_bytes());
        table.extend_from_slice(&self.length.to_le_bytes());
    }

    fn read(row: &[u8]) -> Option<Self> {
        let (id, rest) = row.split_first_chunk::<{ Id::LEN }>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (stored, rest) = rest.split_first_chunk::<4>()?;
        let length = rest.first_chunk::<4>()?;
        Some(Self {
            id: Id::from_bytes(*id),
            offset: u64::from_le_bytes(*offset),
            stored: u32::from_le_bytes(*stored),
            length: u32::from_le_bytes(*length),
        })
    }
}

/// A pack that is open for reading. Its file may be removed meanwhile.
pub(crate) struct Pack {
    pub(crate) path: PathBuf,
    file: File,
    table: Vec<Record>,
}

impl Pack {
    /// Opens a pack; `None` if it is not whole.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let Some(end_at) = size.checked_sub(END as u64) else { return Ok(None) };
        let mut end = [0; END];
        file.read_exact_at(&mut end, end_at)?;
        let (count, rest) = end.split_first_chunk::<8>().expect("the end has room for a number");
        let (hash, magic) = rest.split_first_chunk::<{ Id::LEN }>().expect("the end has room for a hash");
        let count = u64::from_le_bytes(*count);
        let start = count.checked_mul(Record::LEN as u64).and_then(|bytes| end_at.checked_sub(bytes));
        let Some(start) = start.filter(|_| magic == MAGIC) else { return Ok(None) };
        let mut table = vec![0; usize::try_from(end_at - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut table, start)?;
        if Id::of(&table).as_bytes() != hash {
            return Ok(None);
        }
        let table = table.chunks_exact(Record::LEN).filter_map(Record::read).collect();
        Ok(Some(Self { path: path.to_owned(), file, table }))
    }

    pub(crate) fn records(&self) -> &[Record] {
        &self.table
    }

    pub(crate) fn find(&self, id: &Id) -> Option<&Record> {
        let at = self.table.binary_search_by(|record| record.id.cmp(id)).ok()?;
        Some(&self.table[at])
    }

    /// Reads an object as it is stored.
    pub(crate) fn read_stored(&self, record: &Record) -> Result<Vec<u8>, Error> {
        let mut stored = vec![0; record.stored as usize];
        self.file.read_exact_at(&mut stored, record.offset).map_err(|_| Error::Damaged(record.id))?;
        Ok(stored)
    }

    /// Reads an object, and sees that it is the one.
    pub(crate) fn read(&self, record: &Record) -> Result<Vec<u8>, Error> {
        let damaged = || Error::Damaged(record.id);
        if record.length > MAX_OBJECT_BYTES || record.stored > record.length {
            return Err(damaged());
        }
        let mut bytes = self.read_stored(record)?;
        if record.stored < record.length {
            bytes = zstd::bulk::decompress(&bytes, record.length as usize).map_err(|_| damaged())?;
        }
        if Id::of(&bytes) == record.id { Ok(bytes) } else { Err(damaged()) }
    }
}

/// A pack being written. Dropped before [`finish`](Self::finish), it leaves nothing.
pub(crate) struct Writer {
    dir: PathBuf,
    file: BufWriter<NamedTempFile>,
    offset: u64,
    table: Vec<Record>,
}

impl Writer {
    pub(crate) fn begin(dir: &Path) -> Result<Self, Error> {
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir).map_err(Error::at(dir))?;
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        file.write_all(MAGIC).map_err(Error::at(dir))?;
        Ok(Self { dir: dir.to_owned(), file, offset: MAGIC.len() as u64, table: Vec::new() })
    }

    /// Appends an object of `length` bytes in its stored form. None of that name may be in already.
    pub(crate) fn append(&mut self, id: Id, stored: &[u8], length: usize) -> Result<(), Error> {
        self.file.write_all(stored).map_err(Error::at(&self.dir))?;
        let fits = |bytes: usize| u32::try_from(bytes).ok().filter(|bytes| *bytes <= MAX_OBJECT_BYTES);
        let (Some(stored), Some(length)) = (fits(stored.len()), fits(length)) else {
            return Err(Error::at(&self.dir)(io::Error::from(io::ErrorKind::FileTooLarge)));
        };
        self.table.push(Record { id, offset: self.offset, stored, length });
        self.offset += u64::from(stored);
        Ok(())
    }

    /// Appends an object that another pack holds.
    pub(crate) fn copy(&mut self, pack: &Pack, record: &Record) -> Result<(), Error> {
        self.append(record.id, &pack.read_stored(record)?, record.length as usize)
    }

    /// Puts the pack in its place and gives where that is. It survives a crash from here on.
    pub(crate) fn finish(mut self) -> Result<PathBuf, Error> {
        self.table.sort_unstable_by_key(|record| record.id);
        let mut table = Vec::with_capacity(self.table.len() * Record::LEN);
        for record in &self.table {
            record.write(&mut table);
        }
        let hash = Id::of(&table);
        let path = self.dir.join(format!("{hash}{SUFFIX}"));
        let written = (|| {
            self.file.write_all(&table)?;
            self.file.write_all(&(self.table.len() as u64).to_le_bytes())?;
            self.file.write_all(hash.as_bytes())?;
            self.file.write_all(MAGIC)?;
            let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|err| err.error)?;
            File::open(&self.dir)?.sync_all()
        })();
        written.map_err(Error::at(&self.dir))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_that_is_cut_short_anywhere_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::begin(dir.path()).unwrap();
        for text in ["one", "two", "three"] {
            writer.append(Id::of(text.as_bytes()), text.as_bytes(), text.len()).unwrap();
        }
        let path = writer.finish().unwrap();
        let pack = Pack::open(&path).unwrap().expect("a whole pack");
        let record = *pack.find(&Id::of(b"two")).unwrap();
        assert_eq!(pack.read(&record).unwrap(), b"two");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Pack::open(&path).unwrap().is_none(), "{length} of {}", whole.len());
        }
    }

    #[test]
    fn a_changed_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::begin(dir.path()).unwrap();
        writer.append(Id::of(b"content"), b"content", 7).unwrap();
        let path = writer.finish().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[MAGIC.len() + 1] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let pack = Pack::open(&path).unwrap().expect("its table is right");
        let record = pack.records()[0];
        assert!(matches!(pack.read(&record), Err(Error::Damaged(id)) if id == Id::of(b"content")));
    }
}
