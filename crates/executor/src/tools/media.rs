//! Images and PDF files, as blocks that the model sees.
//!
//! What is sent stays in the conversation: a file that the API refuses would make every later request of the thread
//! fail. So a file is looked at before it is taken, by its bytes and not by its name, as far as that goes without
//! decoding it: size, dimensions, and that its end is there.

use base64::{Engine, engine::general_purpose::STANDARD};
use domain::event::Detail;
use sandbox::FileContent;

use super::{Context, Outcome, ResultBlock, ToolError, for_model, read::explain, text};

const MAX_IMAGE_BYTES: u64 = 5 * 1024 * 1024;
const MAX_PDF_BYTES: u64 = 20 * 1024 * 1024;

/// The API's own limit, for each side.
const MAX_PIXELS: u32 = 8000;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
    Gif,
    WebP,
    Pdf,
}

impl Kind {
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [b'%', b'P', b'D', b'F', b'-', ..] => Some(Self::Pdf),
            _ => None,
        }
    }

    fn limit(self) -> u64 {
        if self == Self::Pdf { MAX_PDF_BYTES } else { MAX_IMAGE_BYTES }
    }

    fn block(self, bytes: &[u8]) -> ResultBlock {
        let (media_type, data) = (self.media_type(), STANDARD.encode(bytes));
        match self {
            Self::Pdf => ResultBlock::Document { media_type, data },
            Self::Png | Self::Jpeg | Self::Gif | Self::WebP => ResultBlock::Image { media_type, data },
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::WebP => "image/webp",
            Self::Pdf => "application/pdf",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG image",
            Self::Jpeg => "JPEG image",
            Self::Gif => "GIF image",
            Self::WebP => "WebP image",
            Self::Pdf => "PDF file",
        }
    }

    /// Gives width and height of an image that is all there.
    pub(super) fn dimensions(self, bytes: &[u8]) -> Option<(u32, u32)> {
        match self {
            Self::Png => png(bytes),
            Self::Jpeg => jpeg(bytes),
            Self::Gif => gif(bytes),
            Self::WebP => webp(bytes),
            Self::Pdf => None,
        }
    }
}

/// As much of a file as tells its kind.
pub(crate) const START_BYTES: u64 = 16;

/// Gives how large a file may be to be shown, by its first bytes; `None` if its kind cannot be.
pub(crate) fn limit(start: &[u8]) -> Option<u64> {
    Kind::of(start).map(Kind::limit)
}

/// Says what a whole file is and makes its block; `None` if its kind cannot be shown.
///
/// # Errors
/// Why the API would refuse it.
pub(crate) fn block(bytes: &[u8]) -> Option<Result<(String, ResultBlock), String>> {
    let kind = Kind::of(bytes)?;
    Some(check(kind, bytes).map(|said| (said, kind.block(bytes))))
}

/// Reads the rest of a file of a known kind and makes its block.
pub(super) async fn read(cx: &Context, kind: Kind, path: &str, first: FileContent) -> Result<Outcome, ToolError> {
    let limit = kind.limit();
    if first.size > limit {
        return Err(for_model(format!(
            "{path} is a {} of {}; at most {} can be shown. Make it smaller with Bash first.",
            kind.name(),
            text::size(first.size),
            text::size(limit)
        )));
    }
    let bytes = match first.size > first.bytes.len() as u64 {
        true => cx.read_file(path, 0, limit).await.map_err(|err| explain(err, path))?.bytes,
        false => first.bytes,
    };
    let said = check(kind, &bytes).map_err(|why| for_model(format!("{path} cannot be shown: {why}.")))?;
    cx.take_media(bytes.len() as u64)?;
    let block = kind.block(&bytes);
    let about = ResultBlock::Text(format!("{path}: {said}, {}", text::size(bytes.len() as u64)));
    let detail = Detail::FileRead { path: path.to_owned(), lines: None };
    Ok(Outcome { content: vec![about, block], ..Outcome::text("", Some(detail)) })
}

/// Says what the file is, or why the API would refuse it.
fn check(kind: Kind, bytes: &[u8]) -> Result<String, String> {
    if kind == Kind::Pdf {
        let end = &bytes[bytes.len().saturating_sub(2048)..];
        let has = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        return match () {
            () if !has(end, b"%%EOF") => Err("it is not a whole PDF file, its end is missing".to_owned()),
            () if has(bytes, b"/Encrypt") => Err("the PDF file is encrypted".to_owned()),
            () => Ok(kind.name().to_owned()),
        };
    }
    match kind.dimensions(bytes) {
        Some((width, height)) if width == 0 || height == 0 => Err(format!("the {} is empty", kind.name())),
        Some((width, height)) if width > MAX_PIXELS || height > MAX_PIXELS => Err(format!(
            "the {} has {width}×{height} pixels, at most {MAX_PIXELS} for each side are allowed; make it smaller first",
            kind.name()
        )),
        Some((width, height)) => Ok(format!("{}, {width}×{height} pixels", kind.name())),
        None => Err(format!("it begins like a {} but is damaged or not all there", kind.name())),
    }
}

fn png(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut at = 8;
    // Chunk by chunk to the last: length, type, data, checksum.
    loop {
        let len = side(at)? as usize;
        let kind = bytes.get(at + 4..at + 8)?;
        let end = at.checked_add(len)?.checked_add(12)?;
        if end > bytes.len() || (at == 8) != (kind == b"IHDR") {
            return None;
        }
        if kind == b"IEND" {
            return Some((side(16)?, side(20)?));
        }
        at = end;
    }
}

fn gif(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| Some(u32::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let is_whole = bytes.iter().rev().take(64).any(|&byte| byte == 0x3b);
    if is_whole && bytes.len() > 20 { Some((side(6)?, side(8)?)) } else { None }
}

fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let tail = &bytes[bytes.len().saturating_sub(64 * 1024)..];
    if !tail.windows(2).any(|marker| marker == [0xff, 0xd9]) {
        return None;
    }
    let mut at = 2;
    loop {
        match bytes.get(at..at + 2)? {
            [0xff, 0xff] => at += 1,
            // Start of frame, of any coding process; 0xc4, 0xc8 and 0xcc are something else.
            [0xff, 0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf] => {
                return Some((u32::from(word(at + 7)?), u32::from(word(at + 5)?)));
            }
            [0xff, 0x01 | 0xd0..=0xd8] => at += 2,
            [0xff, 0xd9 | 0xda] => return None,
            [0xff, _] => at += 2 + usize::from(word(at + 2)?.max(2)),
            _ => return None,
        }
    }
}

fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    let riff = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    if riff + 8 > bytes.len() {
        return None;
    }
    let get = |at: usize| bytes.get(at).copied().map(u32::from);
    match bytes.get(12..16)? {
        b"VP8 " => {
            let side = |at| Some((get(at)? | get(at + 1)? << 8) & 0x3fff);
            Some((side(26)?, side(28)?))
        }
        b"VP8L" => {
            let bits = u32::from_le_bytes(bytes.get(21..25)?.try_into().ok()?);
            Some(((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1))
        }
        b"VP8X" => {
            let side = |at| Some((get(at)? | get(at + 1)? << 8 | get(at + 2)? << 16) + 1);
            Some((side(24)?, side(27)?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(base64: &str) -> Vec<u8> {
        STANDARD.decode(base64).unwrap()
    }

    /// One small whole file of each kind.
    fn files() -> Vec<(Kind, Vec<u8>, (u32, u32))> {
        let png =
            "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAIAAAA2iEnWAAAAEElEQVR4nGP4z8AARAwQCgAf7gP9i18U1AAAAABJRU5ErkJggg==";
        let gif = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";
        let webp = "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA";
        let mut jpeg = vec![0xff, 0xd8, 0xff, 0xe0, 0, 4, 0, 0, 0xff, 0xc0, 0, 11, 8, 0, 5, 0, 7, 1, 1, 0x11, 0];
        jpeg.extend([0xff, 0xda, 0, 2, 1, 2, 3, 0xff, 0xd9]);
        vec![
            (Kind::Png, decode(png), (2, 3)),
            (Kind::Gif, decode(gif), (1, 1)),
            (Kind::WebP, decode(webp), (1, 1)),
            (Kind::Jpeg, jpeg, (7, 5)),
        ]
    }

    #[test]
    fn images_are_known_by_their_bytes() {
        for (kind, bytes, dimensions) in files() {
            assert_eq!(Kind::of(&bytes), Some(kind));
            assert_eq!(kind.dimensions(&bytes), Some(dimensions), "{kind:?}");
        }
        assert_eq!(Kind::of(b"%PDF-1.7 x"), Some(Kind::Pdf));
        assert_eq!(Kind::of(b"<svg>"), None);
    }

    #[test]
    fn a_damaged_file_is_refused_and_never_a_panic() {
        for (kind, bytes, _) in files() {
            for len in 0..bytes.len() {
                let result = check(kind, &bytes[..len]);
                if len + 8 < bytes.len() {
                    assert!(result.is_err(), "{kind:?} cut to {len} bytes");
                }
            }
        }
        assert_eq!(check(Kind::Pdf, b"%PDF-1.7 ...").unwrap_err(), "it is not a whole PDF file, its end is missing");
        assert_eq!(check(Kind::Pdf, b"%PDF-1.7 /Encrypt 3 0 R %%EOF").unwrap_err(), "the PDF file is encrypted");
        assert_eq!(check(Kind::Pdf, b"%PDF-1.7 ... %%EOF\n").unwrap(), "PDF file");
    }

    #[test]
    fn an_image_too_large_for_the_api_is_refused() {
        let (_, mut png, _) = files().remove(0);
        png[16..20].copy_from_slice(&8001u32.to_be_bytes());
        let why = check(Kind::Png, &png).unwrap_err();
        assert!(why.starts_with("the PNG image has 8001×3 pixels"), "{why}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_at_without_a_panic(bytes: Vec<u8>) {
            for (kind, mut start, _) in files() {
                start.truncate(14);
                start.extend(&bytes);
                let _ = check(kind, &start);
            }
        }
    }
}
