//! What lies under a body's compression: gzip, zstd, and the members of a zip. Bounded: what unfolds to more is left.

use std::borrow::Cow;
use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::read::read_zipfile_from_stream;

/// Bytes that a compressed answer may unfold to.
const UNFOLDED_MAX: u64 = 32 << 20;
/// Members of a zip that are read.
const MEMBERS_MAX: usize = 10_000;
const GZIP: &[u8] = &[0x1f, 0x8b];
/// RFC 8878, 3.1.1; a window of more than 2^25 bytes is more than is unfolded.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const ZSTD_WINDOW_LOG_MAX: u32 = 25;
/// What the first member of a zip begins with (APPNOTE 4.3.7).
const ZIP: &[u8] = b"PK\x03\x04";

/// The body under its compression, as far as it is one we know and can be unfolded, and why it is not whole.
pub fn layers<'b>(body: &'b [u8], content_encoding: Option<&str>) -> (Cow<'b, [u8]>, Option<&'static str>) {
    let mut room = UNFOLDED_MAX;
    let (body, broken) = unpacked(body, &mut room, content_encoding.unwrap_or_default());
    if !body.starts_with(ZIP) {
        return (body, broken);
    }
    // A zip within them has what room is left.
    let (members, over) = unzipped(&body, room);
    let broken = over.then_some(TOO_MUCH).or(broken);
    if members.is_empty() { (body, broken) } else { (Cow::Owned(members), broken) }
}

const TOO_MUCH: &str = "it unfolds to more than is read";

/// What gzip or zstd hold, whether said by `encoding` or shown by how they begin.
fn unpacked<'b>(body: &'b [u8], room: &mut u64, encoding: &str) -> (Cow<'b, [u8]>, Option<&'static str>) {
    let is = |word: &str, begins: &[u8]| encoding.contains(word) || body.starts_with(begins);
    let mut out = Vec::new();
    // A broken stream still gives what came before the break.
    let (ended, broken) = if is("gzip", GZIP) {
        let ended = flate2::read::MultiGzDecoder::new(body).take(*room).read_to_end(&mut out);
        (ended, encoding.contains("gzip").then_some("its gzip is broken"))
    } else if is("zstd", ZSTD) {
        let ended = zstd::Decoder::new(body).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            decoder.take(*room).read_to_end(&mut out)
        });
        (ended, encoding.contains("zstd").then_some("its zstd is broken"))
    } else {
        return (Cow::Borrowed(body), None);
    };
    let cut = match ended {
        Ok(_) if out.len() as u64 == *room => Some(TOO_MUCH),
        Ok(_) => None,
        Err(_) => broken,
    };
    *room -= out.len() as u64;
    if out.is_empty() { (Cow::Borrowed(body), cut) } else { (Cow::Owned(out), cut) }
}

/// The names and the bytes of a zip's members, and whether there is more than is read. What is encrypted, or packed in a
/// way we do not know, is left out.
fn unzipped(body: &[u8], mut room: u64) -> (Vec<u8>, bool) {
    let mut out = Vec::new();
    let mut member = |name: &[u8], bytes: &mut dyn Read| {
        out.extend_from_slice(name);
        out.push(b'\n');
        let from = out.len();
        // What breaks off gives what came before.
        let _ = bytes.take(room).read_to_end(&mut out);
        let packed = out.split_off(from);
        room = room.saturating_sub(packed.len() as u64);
        let unpacked = unpacked(&packed, &mut room, "").0;
        out.extend_from_slice(&unpacked);
        out.push(b'\n');
        room > 0
    };
    match ZipArchive::new(Cursor::new(body)) {
        Ok(mut archive) => {
            let count = archive.len();
            for index in 0..count.min(MEMBERS_MAX) {
                let Ok(mut file) = archive.by_index(index) else { continue };
                let name = file.name_raw().to_vec();
                if !member(&name, &mut file) {
                    return (out, true);
                }
            }
            (out, count > MEMBERS_MAX)
        }
        // Its end, where its contents are listed, is missing.
        Err(_) => {
            let mut rest = body;
            for _ in 0..MEMBERS_MAX {
                let Ok(Some(mut file)) = read_zipfile_from_stream(&mut rest) else { return (out, false) };
                let name = file.name_raw().to_vec();
                if !member(&name, &mut file) {
                    return (out, true);
                }
            }
            (out, true)
        }
    }
}
