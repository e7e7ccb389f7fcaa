//! Server-sent events, cut out of a stream of bytes.
//!
//! Our own instead of a crate's: each byte is looked at once however the network cut the frames (the usual crate moves
//! the whole rest of its buffer for every line), the frame size has an end, and a broken character costs one frame.

use bytes::Bytes;

/// One frame: the last `event:` name and the joined `data:` lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) event: String,
    pub(crate) data: String,
}

/// No event of the API comes near this; what does is not the API.
const MAX_FRAME_BYTES: usize = 64 << 20;

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// Bytes of unfinished lines; everything before `start` is consumed.
    buffer: Vec<u8>,
    start: usize,
    /// Up to here no line end was found.
    scanned: usize,
    event: String,
    data: String,
    has_data: bool,
    seen_first: bool,
}

/// A frame grew past any sensible size.
#[derive(Debug)]
pub(crate) struct TooLarge;

impl Decoder {
    pub(crate) fn push(&mut self, chunk: &Bytes) -> Result<(), TooLarge> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() + self.data.len() > MAX_FRAME_BYTES { Err(TooLarge) } else { Ok(()) }
    }

    /// The next complete frame with data. Lines end with LF or CR LF (a lone CR is not in use by any back end).
    pub(crate) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let Some(found) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') else {
                self.scanned = self.buffer.len();
                return None;
            };
            let end = self.scanned + found;
            let mut line = &self.buffer[self.start..end];
            self.start = end + 1;
            self.scanned = end + 1;
            if let [head @ .., b'\r'] = line {
                line = head;
            }
            if !self.seen_first {
                self.seen_first = true;
                line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
            }
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                let data = std::mem::take(&mut self.data);
                if std::mem::take(&mut self.has_data) {
                    return Some(Frame { event, data });
                }
                continue;
            }
            let (field, value) = match line.iter().position(|&byte| byte == b':') {
                Some(0) => continue, // A comment, such as a keep-alive.
                Some(colon) => (&line[..colon], &line[colon + 1..]),
                None => (line, &b""[..]),
            };
            let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
            match field {
                b"event" => self.event = value.into_owned(),
                b"data" => {
                    if self.has_data {
                        self.data.push('\n');
                    }
                    self.has_data = true;
                    self.data.push_str(&value);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(chunks: &[&[u8]]) -> Vec<(String, String)> {
        let mut decoder = Decoder::default();
        let mut frames = Vec::new();
        for chunk in chunks {
            decoder.push(&Bytes::copy_from_slice(chunk)).unwrap();
            while let Some(frame) = decoder.next_frame() {
                frames.push((frame.event, frame.data));
            }
        }
        frames
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let text = "\u{feff}event: a\r\ndata: {\"x\":\r\ndata: \"ö€\"}\r\n\r\n: keep-alive\n\nevent: lost\n\ndata:bare\nid: 7\n\nevent: open\ndata: unfinished";
        let expected = vec![("a".to_owned(), "{\"x\":\n\"ö€\"}".to_owned()), (String::new(), "bare".to_owned())];
        assert_eq!(decode(&[text.as_bytes()]), expected);
        for size in [1, 2, 3, 7] {
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            assert_eq!(decode(&chunks), expected, "in chunks of {size}");
        }
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        let mut decoder = Decoder::default();
        let chunk = Bytes::from(vec![b'x'; 40 << 20]);
        decoder.push(&chunk).unwrap();
        assert!(decoder.next_frame().is_none());
        assert!(decoder.push(&chunk).is_err());
    }
}
