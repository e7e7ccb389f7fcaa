//! `atelier pdf-text`, as the server calls it.

#![allow(clippy::unwrap_used, reason = "in a test, unwrap is the assertion")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

fn read(bytes: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .arg("pdf-text")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).ok();
    child.wait_with_output().unwrap()
}

/// A file of one page for each content, which it has so many `times`.
fn pdf_with(contents: &[&[u8]], times: usize, filter: &str, trailer: &str) -> Vec<u8> {
    let kids: Vec<String> = (0..contents.len()).map(|n| format!("{} 0 R", 4 + 2 * n)).collect();
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), kids.len()).into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
    ];
    for (n, content) in contents.iter().enumerate() {
        objects.push(
            format!(
                "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents [{}] \
                 /Resources << /Font << /F1 3 0 R >> >> >>",
                format!("{} 0 R ", 5 + 2 * n).repeat(times)
            )
            .into_bytes(),
        );
        let head = format!("<< /Length {} {filter} >>\nstream\n", content.len());
        objects.push([head.as_bytes(), content, b"\nendstream"].concat());
    }
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (n, object) in objects.iter().enumerate() {
        offsets.push(file.len());
        file.extend_from_slice(format!("{} 0 obj\n", n + 1).as_bytes());
        file.extend_from_slice(object);
        file.extend_from_slice(b"\nendobj\n");
    }
    let start = file.len();
    file.extend_from_slice(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).as_bytes());
    for offset in offsets {
        file.extend_from_slice(format!("{offset:010} 00000 n \n").as_bytes());
    }
    let size = objects.len() + 1;
    let end = format!("trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\nstartxref\n{start}\n%%EOF\n");
    file.extend_from_slice(end.as_bytes());
    file
}

fn pdf(contents: &[&[u8]], trailer: &str) -> Vec<u8> {
    pdf_with(contents, 1, "", trailer)
}

fn page(text: &str) -> Vec<u8> {
    format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET").into_bytes()
}

#[test]
fn a_pdf_file_becomes_text_and_what_is_none_ends_only_its_reader() {
    let read_well = read(&pdf(&[&page("Hello, paper."), &page("The second page.")], ""));
    assert!(read_well.status.success(), "{}", String::from_utf8_lossy(&read_well.stderr));
    let text = String::from_utf8_lossy(&read_well.stdout).into_owned();
    let lines: Vec<_> = text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
    assert_eq!(lines, ["Hello, paper.", "The second page."]);
    let whole = pdf(&[&page("x")], "");
    for bad in [&b""[..], b"%PDF-1.4 nothing more", &whole[..whole.len() / 2], b"\xff\xfe\0\0"] {
        let output = read(bad);
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_page_that_cannot_be_read_costs_no_other() {
    let broken = b"BT /NoSuchFont 24 Tf 72 700 Td (lost) Tj ET";
    let output = read(&pdf(&[&page("before"), broken, &page("after")], ""));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("before") && text.contains("after"), "{text}");
    assert!(text.contains("[Not all of page 2 can be read.]"), "{text}");
}

#[test]
fn one_that_wants_a_password_says_so() {
    let encrypt = format!(
        "/Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /O <{0}> /U <{0}> /P -4 >> /ID [<{1}> <{1}>]",
        "5a".repeat(32),
        "00".repeat(16)
    );
    let output = read(&pdf(&[&page("secret")], &encrypt));
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stdout.is_empty());
}

#[test]
fn one_that_unpacks_to_more_than_all_memory_is_stopped() {
    // Some kilobytes that are 16 MiB of blanks, four hundred times on one page.
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&vec![b' '; 16 << 20]).unwrap();
    let bomb = pdf_with(&[&packed.finish().unwrap()], 400, "/Filter /FlateDecode", "");
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let began_at = std::time::Instant::now();
    let output = read(&bomb);
    assert!(output.stdout.len() < 10_000, "{}", output.stdout.len());
    // Its time of the processor is limited; the machine may be busy with others.
    assert!(began_at.elapsed().as_secs() < 120, "{output:?}");
}
