//! Finds canaries in bytes: one search for the common digits, a keyed decision at each hit, and a second search for
//! encoded forms.

use std::borrow::Cow;
use std::io::Read;
use std::net::Ipv6Addr;

use base64::Engine;
use memchr::memmem::Finder;

use super::code::{BIGINT_DIGITS, Code, OWNER_CHARS, TEXT_CHARS};
use super::{Canary, Encoding, Form, MARK, PREFIX, Sighting, TimeWindow};

/// Bytes of an encoded run that are decoded: more than the longest canary needs.
const RUN_MAX: usize = 128;
/// Bytes that a compressed answer may unfold to.
const UNFOLDED_MAX: u64 = 64 << 20;

/// Finds the canaries of one run. Its cost does not depend on how many tenants there are.
pub struct Scanner {
    code: Code,
    plain: Finder<'static>,
    encoded: [Encoded; 6],
}

/// A constant that betrays the mark under an encoding.
struct Encoded {
    finder: Finder<'static>,
    encoding: Encoding,
    /// Bytes of the mark that lie before the constant.
    before: usize,
}

impl Scanner {
    /// A scanner with the run's key.
    pub fn new(key: [u8; 16], window: TimeWindow) -> Self {
        let encoded = |needle: &str, encoding, before| Encoded {
            finder: Finder::new(needle.as_bytes()).into_owned(),
            encoding,
            before,
        };
        let base64 = |before: usize| {
            // Whole groups only: what shares a group with a neighbour is not constant.
            let whole = (MARK.len() - before) / 3 * 3;
            let text = base64::engine::general_purpose::STANDARD.encode(&MARK[before..before + whole]);
            encoded(&text, Encoding::Base64, before)
        };
        Self {
            code: Code::new(key, window),
            plain: Finder::new(PREFIX).into_owned(),
            encoded: [
                base64(0),
                base64(1),
                base64(2),
                encoded("35303733", Encoding::Hex, 0),
                encoded("%35%30%37%33", Encoding::Percent, 0),
                encoded(r"\u0035\u0030\u0037\u0033", Encoding::JsonEscape, 0),
            ],
        }
    }

    /// Reports every sighting in `bytes`, as they are and under all encodings.
    pub fn scan(&self, bytes: &[u8], report: &mut dyn FnMut(Sighting)) {
        self.scan_plain(bytes, report);
        for encoded in &self.encoded {
            for at in encoded.finder.find_iter(bytes) {
                self.unfold(encoded, bytes, at, report);
            }
        }
    }

    /// Reports every sighting that is not encoded.
    pub fn scan_plain(&self, bytes: &[u8], report: &mut dyn FnMut(Sighting)) {
        for at in self.plain.find_iter(bytes) {
            if let Some(sighting) = self.decide(bytes, at) {
                report(sighting);
            }
        }
    }

    /// What the digits at `at` belong to, judged by what surrounds them.
    fn decide(&self, bytes: &[u8], at: usize) -> Option<Sighting> {
        let sighting = |form, owner, row, column| {
            Some(Sighting { owner, row, column, form, encoding: Encoding::Plain, offset: at })
        };
        let rest = &bytes[at..];
        if rest.starts_with(MARK) {
            if let Some(canary) = self.uuid(rest) {
                return sighting(Form::Uuid, canary.owner, Some(canary.row), Some(canary.column));
            }
            let chars = &rest[MARK.len()..rest.len().min(MARK.len() + TEXT_CHARS)];
            let (owner, whole) = self.code.of_text(chars)?;
            return sighting(Form::Text, owner, whole.map(|c| c.row), whole.map(|c| c.column));
        }
        let number = || self.bigint(rest).map(|(owner, row)| (Form::Bigint, owner, row, None));
        let instant = |found: Option<(super::Owner, u32)>| found.map(|(owner, row)| (Form::Time, owner, row, None));
        // A colon or a point may stand before a number too.
        let (form, owner, row, column) = match at.checked_sub(1).map(|before| bytes[before]) {
            Some(b':') => {
                let inet = self.inet(bytes, at).map(|c| (Form::Inet, c.owner, c.row, Some(c.column)));
                inet.or_else(number)
            }
            Some(b'.' | b',') => instant(self.instant(bytes, at)).or_else(number),
            Some(b'0'..=b'9') => instant(self.epoch(bytes, at)),
            _ => number(),
        }?;
        sighting(form, owner, Some(row), column)
    }

    fn uuid(&self, rest: &[u8]) -> Option<Canary> {
        let text = if rest.get(8) == Some(&b'-') { rest.get(..36)? } else { rest.get(..32)? };
        let id = uuid::Uuid::try_parse_ascii(text).ok()?.as_u128();
        if id >> 76 & 0xf != 8 || id >> 62 & 0b11 != 0b10 {
            return None;
        }
        self.code.of_uuid((id >> 80 & 0xffff) << 74 | (id >> 64 & 0xfff) << 62 | id & ((1 << 62) - 1))
    }

    fn inet(&self, bytes: &[u8], at: usize) -> Option<Canary> {
        let start = at.checked_sub(5)?;
        let end =
            bytes[at..].iter().take(36).position(|b| !matches!(b, b':' | b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F'));
        let end = end.map_or(bytes.len().min(at + 36), |length| at + length);
        let address: Ipv6Addr = std::str::from_utf8(&bytes[start..end]).ok()?.parse().ok()?;
        let bits = address.to_bits();
        (bits >> 120 == 0xfd && (bits >> 96) & 0xffff == 0x5073).then(|| self.code.of_inet(bits & ((1 << 96) - 1)))?
    }

    /// Text such as `2026-05-01T10:11:12.507342`, whose sub-second digits begin at `at`.
    fn instant(&self, bytes: &[u8], at: usize) -> Option<(super::Owner, u32)> {
        let text = bytes.get(at.checked_sub(20)?..at - 1)?;
        let number = |from: usize, length: usize| -> Option<i64> {
            text[from..from + length]
                .iter()
                .try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
        };
        if text[4] != b'-'
            || text[7] != b'-'
            || !matches!(text[10], b'T' | b't' | b' ')
            || text[13] != b':'
            || text[16] != b':'
        {
            return None;
        }
        let month = time::Month::try_from(u8::try_from(number(5, 2)?).ok()?).ok()?;
        let date = time::Date::from_calendar_date(number(0, 4)? as i32, month, number(8, 2)? as u8).ok()?;
        let clock = time::Time::from_hms(number(11, 2)? as u8, number(14, 2)? as u8, number(17, 2)? as u8).ok()?;
        let digits = bytes[at..].iter().take(6).take_while(|b| b.is_ascii_digit());
        // Printers drop trailing zeros.
        let (length, sub) = digits.fold((0, 0), |(length, n), b| (length + 1, n * 10 + i64::from(b - b'0')));
        let sub = sub * 10_i64.pow(6 - length);
        let second = time::PrimitiveDateTime::new(date, clock).assume_utc().unix_timestamp();
        self.code.of_instant(second * 1_000_000 + sub)
    }

    /// Sixteen digits of microseconds since the epoch, the last six of which begin at `at`.
    fn epoch(&self, bytes: &[u8], at: usize) -> Option<(super::Owner, u32)> {
        let digits = bytes.get(at.checked_sub(10)?..at + 6)?;
        let us = digits.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
        self.code.of_instant(us)
    }

    fn bigint(&self, rest: &[u8]) -> Option<(super::Owner, u32)> {
        let digits = rest.get(..BIGINT_DIGITS)?;
        if rest.get(BIGINT_DIGITS).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))?;
        self.code.of_bigint(number)
    }

    /// Decodes an encoded run from a hit on, and decides on what comes out.
    fn unfold(&self, encoded: &Encoded, bytes: &[u8], at: usize, report: &mut dyn FnMut(Sighting)) {
        let run = &bytes[at..];
        let decoded = match encoded.encoding {
            Encoding::Base64 => base64_run(run),
            Encoding::Hex => escaped_run(run, b""),
            Encoding::Percent => escaped_run(run, b"%"),
            Encoding::JsonEscape => escaped_run(run, br"\u00"),
            Encoding::Plain => return,
        };
        let mut whole = MARK[..encoded.before].to_vec();
        whole.extend_from_slice(&decoded);
        if whole.len() < MARK.len() + OWNER_CHARS {
            return;
        }
        if let Some(sighting) = self.decide(&whole, 0) {
            report(Sighting { encoding: encoded.encoding, offset: at, ..sighting });
        }
    }
}

fn base64_run(run: &[u8]) -> Vec<u8> {
    let value = |byte: &u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(RUN_MAX);
    let (mut bits, mut held) = (0u32, 0);
    for digit in run.iter().take(RUN_MAX).map_while(value) {
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

/// Two hexadecimal digits a byte, each pair after `lead`.
fn escaped_run(run: &[u8], lead: &[u8]) -> Vec<u8> {
    let pair = |chunk: &[u8]| -> Option<u8> {
        let digits = chunk.strip_prefix(lead)?;
        u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    run.chunks_exact(lead.len() + 2).take(RUN_MAX).map_while(pair).collect()
}

/// The body under its compression, as far as it is one we know and can be unfolded.
pub fn layers<'b>(body: &'b [u8], content_encoding: Option<&str>) -> Cow<'b, [u8]> {
    let gzip = body.starts_with(&[0x1f, 0x8b]) || content_encoding.is_some_and(|e| e.contains("gzip"));
    if !gzip {
        return Cow::Borrowed(body);
    }
    let mut out = Vec::new();
    // A broken stream still gives what came before the break.
    let _ = flate2::read::MultiGzDecoder::new(body).take(UNFOLDED_MAX).read_to_end(&mut out);
    if out.is_empty() { Cow::Borrowed(body) } else { Cow::Owned(out) }
}
