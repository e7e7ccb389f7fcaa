//! `atelier pdf-text`: the text of a PDF file, from standard input to standard output, in a process of its own.
//!
//! A page that an agent fetches is anybody's. To read a PDF is to unpack and to interpret it: a small one can want all memory
//! that there is, or all time, and what reads it panics over what it does not know. So the server has it done by a child
//! with limits, whose end costs nothing but what of the text it has not written yet. What its exit codes mean says
//! [`executor::tools::web::pdf`], which calls it.

use std::{
    io::{Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use anyhow::Context;
use executor::tools::web::pdf::ENCRYPTED;
use nix::sys::resource::{Resource, setrlimit};
use pdf_extract::{Document, PlainTextOutput, output_doc_page};

const MAX_BYTES: u64 = 32 * 1024 * 1024;
const MAX_MEMORY: u64 = 1024 * 1024 * 1024;
const MAX_CPU_SECONDS: u64 = 8;

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    // Before anything of the file is looked at.
    for (resource, most) in
        [(Resource::RLIMIT_AS, MAX_MEMORY), (Resource::RLIMIT_CPU, MAX_CPU_SECONDS), (Resource::RLIMIT_CORE, 0)]
    {
        setrlimit(resource, most, most).context("cannot set limits")?;
    }
    // What the reader cannot read makes it panic, and nobody wants to know where.
    std::panic::set_hook(Box::new(|_| {}));
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_BYTES).read_to_end(&mut bytes).context("cannot read the file")?;
    let document = Document::load_mem(&bytes).context("cannot read the PDF file")?;
    // Many are encrypted with no password at all, only to forbid copying; those are read by now.
    if document.trailer.has(b"Encrypt") {
        return Ok(ExitCode::from(ENCRYPTED));
    }
    let mut out = std::io::stdout().lock();
    let numbers: Vec<u32> = document.get_pages().into_keys().collect();
    anyhow::ensure!(!numbers.is_empty(), "the PDF file has no page");
    for number in numbers {
        // Page by page: what is written stays, whatever a later one does.
        let mut text = String::new();
        let read = catch_unwind(AssertUnwindSafe(|| {
            output_doc_page(&document, &mut PlainTextOutput::new(&mut text), number).is_ok()
        }));
        if !read.unwrap_or(false) {
            text.push_str(&format!("\n[Not all of page {number} can be read.]\n"));
        }
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the text")?;
    }
    Ok(ExitCode::SUCCESS)
}
