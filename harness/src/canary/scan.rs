//! Finds canaries in bytes: one search for the common digits and two for encoded forms, chunk by chunk, and a keyed
//! decision at each hit.

use std::net::Ipv6Addr;

use aho_corasick::{AhoCorasick, MatchKind};
use memchr::memmem::Finder;

use super::code::{BIGINT_DIGITS, Code, TEXT_CHARS};
use super::{Canary, Encoding, Form, MARK, Owner, PREFIX, Post, Sighting, TimeWindow};

/// Bytes of an encoded run that are decoded: more than the longest canary needs.
const RUN_MAX: usize = 160;
/// Bytes searched at once: they stay in the nearest cache for the later passes.
const CHUNK: usize = 16 << 10;
/// Places tried at either end of a run of the prefix's digit, which neighbours may have lengthened.
const TRIED: usize = 12;
/// What the mark becomes in base64, at every alignment.
const BASE64_MARK: &[u8] = b"MzMzMzMz";
/// Where Postgres begins to count, 2000-01-01, microseconds since the Unix epoch.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// What half of the mark becomes where every character is escaped.
const PERCENT_MARK: &[u8] = b"%33%33%33%33";
const JSON_MARK: &[u8] = br"\u0033\u0033\u0033\u0033";

/// Finds the canaries of one run. Its cost does not depend on how many tenants there are.
pub struct Scanner {
    code: Code,
    plain: Finder<'static>,
    base64: Finder<'static>,
    learnt: Option<Learnt>,
}

/// Values that the service made, and whose they are.
struct Learnt {
    finder: AhoCorasick,
    owners: Vec<(Owner, Option<u32>, u16)>,
}

impl Scanner {
    /// A scanner with the run's key.
    pub fn new(key: [u8; 16], window: TimeWindow) -> Self {
        Self {
            code: Code::new(key, window),
            plain: Finder::new(PREFIX),
            base64: Finder::new(BASE64_MARK),
            learnt: None,
        }
    }

    /// Also finds `values`, each as a whole word and in any case: a value, its owner, row and column.
    #[must_use]
    pub fn with_learnt(mut self, values: Vec<(String, Owner, Option<u32>, u16)>) -> Self {
        let (texts, owners): (Vec<String>, Vec<_>) =
            values.into_iter().map(|(text, owner, row, column)| (text, (owner, row, column))).unzip();
        let builder =
            AhoCorasick::builder().ascii_case_insensitive(true).match_kind(MatchKind::LeftmostLongest).build(texts);
        // Too many for one search: then what is planted must do.
        self.learnt = builder.ok().filter(|_| !owners.is_empty()).map(|finder| Learnt { finder, owners });
        self
    }

    /// Reports every sighting in `bytes`, as they are and under all encodings.
    pub fn scan(&self, bytes: &[u8], report: &mut dyn FnMut(Sighting)) {
        self.learnt(bytes, report);
        let (mut plain, mut base64, mut escaped) = (0, 0, 0);
        for start in (0..bytes.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(bytes.len());
            // A needle may begin in this chunk and end in the next.
            let chunk = |needle: usize| &bytes[start..(end + needle - 1).min(bytes.len())];
            for at in self.plain.find_iter(chunk(PREFIX.len())).map(|at| start + at) {
                if at >= plain {
                    plain = self.run(bytes, at, report);
                }
            }
            for at in self.base64.find_iter(chunk(BASE64_MARK.len())).map(|at| start + at) {
                if at >= base64 {
                    base64 = self.base64(bytes, at, report);
                }
            }
            for at in memchr::memchr2_iter(b'%', b'\\', &bytes[start..end]).map(|at| start + at) {
                if at < escaped {
                    continue;
                }
                for (mark, encoding) in [(PERCENT_MARK, Encoding::Percent), (JSON_MARK, Encoding::JsonEscape)] {
                    if bytes[at..].starts_with(mark) {
                        let (lead, digits) = mark[..mark.len() / 4].split_at(mark.len() / 4 - 2);
                        self.unfolded(&escaped_run(&bytes[at..], lead), encoding, at, report);
                        escaped = at + same(&bytes[at..], &[lead, digits].concat());
                    }
                }
            }
        }
    }

    fn learnt(&self, bytes: &[u8], report: &mut dyn FnMut(Sighting)) {
        let Some(learnt) = &self.learnt else { return };
        let word = |at: Option<&u8>| at.is_some_and(u8::is_ascii_alphanumeric);
        for found in learnt.finder.find_iter(bytes) {
            let before = found.start().checked_sub(1).and_then(|at| bytes.get(at));
            if !word(before) && !word(bytes.get(found.end())) {
                let (owner, row, column) = learnt.owners[found.pattern().as_usize()];
                report(sighting(Form::Learnt, owner, row, Some(column), found.start()));
            }
        }
    }

    /// Decides on the run of the prefix's digit around `at`; where it ends.
    fn run(&self, bytes: &[u8], at: usize, report: &mut dyn FnMut(Sighting)) -> usize {
        let digit = PREFIX[0];
        let start = bytes[..at].iter().rposition(|b| *b != digit).map_or(0, |before| before + 1);
        let end = bytes[at..].iter().position(|b| *b != digit).map_or(bytes.len(), |after| at + after);
        if let Some(sighting) = places(start, end, MARK.len()).find_map(|place| self.marked(bytes, place)) {
            report(sighting);
            return end;
        }
        // The hexadecimal form of the mark is a run of the same digit, twice as long.
        let hex = places(start, end, MARK.len() * 2).find_map(|place| {
            let decoded = escaped_run(&bytes[place..], b"");
            places(0, same(&decoded, PREFIX[..1].as_ref()), MARK.len()).find_map(|place| self.marked(&decoded, place))
        });
        let found = hex.map(|sighting| Sighting { encoding: Encoding::Hex, offset: start, ..sighting });
        let found = found.or_else(|| self.unmarked(bytes, start, end));
        if let Some(sighting) = found.or_else(|| self.raw_uuid(bytes, start, end)) {
            report(sighting);
        }
        end
    }

    /// The UUID that begins in a run, as its sixteen bytes: its first ones are the prefix's digits as text.
    fn raw_uuid(&self, bytes: &[u8], start: usize, end: usize) -> Option<Sighting> {
        places(start, end, PREFIX.len()).find_map(|place| {
            let raw = bytes.get(place..place + 16)?.try_into().ok()?;
            let canary = self.of_uuid(u128::from_be_bytes(raw))?;
            Some(sighting(Form::Uuid, canary.owner, Some(canary.row), Some(canary.column), place))
        })
    }

    /// The canary that `value` is as a whole in Postgres's binary format, where it has no digits to be found by: a number,
    /// an instant, an address.
    pub fn binary(&self, value: &[u8]) -> Option<Sighting> {
        if let Ok(eight) = value.try_into().map(i64::from_be_bytes) {
            let number = u64::try_from(eight).ok().and_then(|number| self.code.of_bigint(number));
            let number = number.map(|(owner, row)| sighting(Form::Bigint, owner, Some(row), None, 0));
            let instant = || self.code.of_instant(eight.checked_add(POSTGRES_EPOCH_US)?);
            return number.or_else(|| instant().map(|(owner, row)| sighting(Form::Time, owner, Some(row), None, 0)));
        }
        // Family, bits, whether it is a network, the length, the address.
        let [3, _, _, 16, address @ ..] = value else { return None };
        let bits = u128::from_be_bytes(address.try_into().ok()?);
        let canary = self.of_inet(bits)?;
        Some(sighting(Form::Inet, canary.owner, Some(canary.row), Some(canary.column), 0))
    }

    /// The UUID or text whose mark begins at `at`.
    fn marked(&self, bytes: &[u8], at: usize) -> Option<Sighting> {
        let rest = &bytes[at..];
        if let Some(canary) = self.uuid(rest) {
            return Some(sighting(Form::Uuid, canary.owner, Some(canary.row), Some(canary.column), at));
        }
        let chars = &rest[MARK.len()..rest.len().min(MARK.len() + TEXT_CHARS)];
        let (owner, whole) = self.code.of_text(chars)?;
        Some(sighting(Form::Text, owner, whole.map(|c| c.row), whole.map(|c| c.column), at))
    }

    /// The address, instant or number that a run without a mark belongs to, judged by what stands before it.
    fn unmarked(&self, bytes: &[u8], start: usize, end: usize) -> Option<Sighting> {
        let number = || self.bigint(&bytes[start..]).map(|(owner, row)| (Form::Bigint, owner, row, None));
        let instant = |found: Option<(Owner, u32)>| found.map(|(owner, row)| (Form::Time, owner, row, None));
        // A colon or a point may stand before a number too.
        let (form, owner, row, column) = match start.checked_sub(1).map(|before| bytes[before]) {
            Some(b':') => {
                let inet = self.inet(bytes, start).map(|c| (Form::Inet, c.owner, c.row, Some(c.column)));
                inet.or_else(number)
            }
            Some(b'.' | b',') => instant(self.instant(bytes, start)).or_else(number),
            Some(b'0'..=b'9') => instant(places(start, end, PREFIX.len()).find_map(|place| self.epoch(bytes, place))),
            _ => number(),
        }?;
        Some(sighting(form, owner, Some(row), column, start))
    }

    /// Decodes the base64 run around `at`; where its mark ends.
    fn base64(&self, bytes: &[u8], at: usize, report: &mut dyn FnMut(Sighting)) -> usize {
        let length = same(&bytes[at..], b"Mz");
        // Half a group lies between the two ways to align a run that looks the same every two characters.
        for shift in [0, 2] {
            let mut whole = MARK.to_vec();
            whole.extend(base64_run(&bytes[at + length.saturating_sub(16) + shift..]));
            if self.unfolded(&whole, Encoding::Base64, at, report) {
                break;
            }
        }
        at + length
    }

    /// Decides on a decoded run that begins with the prefix's digit.
    fn unfolded(&self, decoded: &[u8], encoding: Encoding, at: usize, report: &mut dyn FnMut(Sighting)) -> bool {
        let end = same(decoded, &PREFIX[..1]);
        let found = places(0, end, MARK.len()).find_map(|place| self.marked(decoded, place));
        if let Some(sighting) = found {
            report(Sighting { encoding, offset: at, ..sighting });
        }
        found.is_some()
    }

    fn uuid(&self, rest: &[u8]) -> Option<Canary> {
        let text = if rest.get(8) == Some(&b'-') { rest.get(..36)? } else { rest.get(..32)? };
        self.of_uuid(uuid::Uuid::try_parse_ascii(text).ok()?.as_u128())
    }

    fn of_uuid(&self, id: u128) -> Option<Canary> {
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
        self.of_inet(address.to_bits())
    }

    fn of_inet(&self, bits: u128) -> Option<Canary> {
        (bits >> 120 == 0xfd && (bits >> 96) & 0xffff == 0x3333).then(|| self.code.of_inet(bits & ((1 << 96) - 1)))?
    }

    /// Text such as `2026-05-01T10:11:12.333342`, whose sub-second digits begin at `at`.
    fn instant(&self, bytes: &[u8], at: usize) -> Option<(Owner, u32)> {
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
    fn epoch(&self, bytes: &[u8], at: usize) -> Option<(Owner, u32)> {
        let digits = bytes.get(at.checked_sub(10)?..at + 6)?;
        let us = digits.iter().try_fold(0i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))?;
        self.code.of_instant(us)
    }

    fn bigint(&self, rest: &[u8]) -> Option<(Owner, u32)> {
        let digits = rest.get(..BIGINT_DIGITS)?;
        if rest.get(BIGINT_DIGITS).is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().try_fold(0u64, |n, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))?;
        self.code.of_bigint(number)
    }
}

fn sighting(form: Form, owner: Owner, row: Option<u32>, column: Option<u16>, offset: usize) -> Sighting {
    Sighting { owner, row, column, form, encoding: Encoding::Plain, offset, post: Post::default() }
}

/// Where something of `length` may begin in a run from `start` to `end`: near its start, then near its end.
fn places(start: usize, end: usize, length: usize) -> impl Iterator<Item = usize> {
    let last = (end + 1).saturating_sub(length).max(start);
    let near = start..last.min(start + TRIED);
    let far = last.saturating_sub(TRIED).max(near.end)..last;
    near.chain(far)
}

/// How many bytes of `bytes` are repetitions of `unit`.
fn same(bytes: &[u8], unit: &[u8]) -> usize {
    bytes.chunks_exact(unit.len()).take_while(|chunk| *chunk == unit).count() * unit.len()
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
