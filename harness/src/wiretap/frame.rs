//! Frames of the Postgres protocol, read in place: what is passed on is the very bytes that came, and what is judged are
//! slices of them. A header is looked at before its bytes are passed on; what is no frame ends the connection.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// A type and a length.
const HEADER: usize = 5;
/// The longest message that Postgres makes (`MaxAllocSize`), bytes.
pub const LENGTH_MAX: usize = 0x3fff_ffff;

/// Which end of a connection sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// The service.
    Client,
    /// The database.
    Server,
}

impl Sender {
    /// Whether it sends messages of that type, in protocol 3.0 and 3.2.
    fn sends(self, tag: u8) -> bool {
        const CLIENT: u128 = set(b"BCDEFHPQSXcdfp");
        const SERVER: u128 = set(b"123ACDEGHIKNRSTVWZcdnstv");
        let known = match self {
            Self::Client => CLIENT,
            Self::Server => SERVER,
        };
        tag.is_ascii() && known >> tag & 1 == 1
    }

    fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A bit for each of `tags`.
const fn set(tags: &[u8]) -> u128 {
    let (mut bits, mut at) = (0, 0);
    while at < tags.len() {
        bits |= 1 << tags[at];
        at += 1;
    }
    bits
}

/// Part of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// A whole message: its type and its body.
    Whole(u8, &'b [u8]),
    /// One or more whole messages with a row each, headers included.
    Rows(&'b [u8]),
    /// Part of the body of a message that is longer than is kept, and whether it is the last.
    Part(u8, &'b [u8], bool),
}

/// Reads one direction of a connection.
pub struct Reader {
    sender: Sender,
    bytes: Box<[u8]>,
    /// Where what is not judged yet begins.
    start: usize,
    /// Where what is not passed on yet begins.
    passed: usize,
    /// Where the next header begins that was not looked at; beyond `end` while its message is under way.
    header: usize,
    end: usize,
    /// The type of the message that is read in parts, and how much of it is to come.
    long: Option<(u8, usize)>,
    /// Whether anything came.
    began: bool,
}

impl Reader {
    /// Keeps `capacity` bytes at most; longer messages are read in parts.
    pub fn new(sender: Sender, capacity: usize) -> Self {
        let bytes = vec![0; capacity].into_boxed_slice();
        Self { sender, bytes, start: 0, passed: 0, header: 0, end: 0, long: None, began: false }
    }

    /// Waits for more; the number of bytes, 0 at the end. What was passed on and judged makes room.
    ///
    /// # Errors
    /// As the connection's.
    pub async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        let keep = self.start.min(self.passed);
        if keep > 0 {
            self.bytes.copy_within(keep..self.end, 0);
            for at in [&mut self.start, &mut self.passed, &mut self.header, &mut self.end] {
                *at -= keep;
            }
        }
        let read = from.read(&mut self.bytes[self.end..]).await?;
        self.end += read;
        self.began |= read > 0;
        Ok(read)
    }

    /// Looks at the headers that came.
    ///
    /// # Errors
    /// What came is no frame; what came before it may still be passed on.
    pub fn vet(&mut self) -> Result<(), String> {
        while self.header + HEADER <= self.end {
            let (tag, length) = header(&self.bytes[self.header..]);
            if !self.sender.sends(tag) {
                return Err(format!("the {} sent a message of the unknown type 0x{tag:02x}", self.sender.word()));
            }
            if !(4..=LENGTH_MAX).contains(&length) {
                return Err(format!("the {} sent a message with the impossible length {length}", self.sender.word()));
            }
            self.header += 1 + length;
        }
        Ok(())
    }

    /// What may be passed on and was not.
    pub fn passable(&self) -> &[u8] {
        &self.bytes[self.passed..self.header.min(self.end)]
    }

    /// So many bytes of [`Reader::passable`] were passed on.
    pub fn pass(&mut self, bytes: usize) {
        self.passed += bytes;
    }

    /// What the client sent up to where it waits for an answer, if it begins here and is all there.
    pub fn batch(&self) -> Option<&[u8]> {
        let vetted = self.header.min(self.end);
        let mut at = self.start;
        while self.long.is_none() && self.start == self.passed && at + HEADER <= vetted {
            let (tag, length) = header(&self.bytes[at..]);
            at += 1 + length;
            match tag {
                _ if at > vetted => return None,
                b'Q' | b'S' => return Some(&self.bytes[self.start..at]),
                b'P' | b'B' | b'D' | b'E' | b'C' => {}
                _ => return None,
            }
        }
        None
    }

    /// Takes [`Reader::batch`] for judged and passed on.
    pub fn skip_batch(&mut self) {
        let length = self.batch().map_or(0, <[u8]>::len);
        self.start += length;
        self.passed += length;
    }

    /// Takes what was judged for passed on.
    pub fn pass_judged(&mut self) {
        self.passed = self.start;
    }

    /// Whose direction it is.
    pub fn sender(&self) -> Sender {
        self.sender
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// The last message is not whole, or there never was one from the server.
    pub fn end(&self) -> Result<(), String> {
        match self.sender {
            _ if self.header != self.end => {
                Err(format!("the {} stopped in the middle of a message", self.sender.word()))
            }
            Sender::Server if !self.began => Err("the server closed the connection without a word".into()),
            _ => Ok(()),
        }
    }

    /// Whether what was passed on ends with a whole message. Only where nothing is judged before it was passed on.
    pub fn is_between_messages(&self) -> bool {
        let mut at = self.start + self.long.map_or(0, |(_, rest)| rest);
        while at < self.passed {
            at += 1 + header(&self.bytes[at..]).1;
        }
        at == self.passed
    }

    /// The next piece of what was vetted.
    pub fn next_piece(&mut self) -> Option<Piece<'_>> {
        let vetted = self.header.min(self.end);
        if let Some((tag, rest)) = self.long {
            let from = self.start;
            let taken = rest.min(vetted - from);
            if taken == 0 && rest > 0 {
                return None;
            }
            self.start += taken;
            self.long = (taken < rest).then_some((tag, rest - taken));
            return Some(Piece::Part(tag, &self.bytes[from..self.start], taken == rest));
        }
        let from = self.start;
        if from + HEADER > vetted {
            return None;
        }
        let (tag, length) = header(&self.bytes[from..]);
        let to = from + 1 + length;
        if to > vetted {
            if 1 + length > self.bytes.len() {
                self.start += HEADER;
                self.long = Some((tag, length - 4));
                return self.next_piece();
            }
            return None;
        }
        self.start = to;
        if !is_row(self.sender, tag) {
            return Some(Piece::Whole(tag, &self.bytes[from + HEADER..to]));
        }
        while self.start + HEADER <= vetted {
            let (next, length) = header(&self.bytes[self.start..]);
            if next != tag || self.start + 1 + length > vetted {
                break;
            }
            self.start += 1 + length;
        }
        Some(Piece::Rows(&self.bytes[from..self.start]))
    }
}

/// The type and the length, itself included, at the beginning of `bytes`.
fn header(bytes: &[u8]) -> (u8, usize) {
    (bytes[0], u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize)
}

/// Whether a message is a row's: of a result, or of COPY to the client.
fn is_row(sender: Sender, tag: u8) -> bool {
    sender == Sender::Server && matches!(tag, b'D' | b'd')
}

/// The messages in `rows`, each as its type, its body and where that ends.
pub fn messages(rows: &[u8]) -> impl Iterator<Item = (u8, &[u8], usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = rows.get(at..).filter(|rest| rest.len() >= HEADER)?;
        let (tag, length) = header(rest);
        let body = rest.get(HEADER..1 + length)?;
        at += 1 + length;
        Some((tag, body, at))
    })
}

/// The values in the body of a row: none for NULL. Ends where the body does, or makes no sense.
pub fn fields(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut reader = Body::new(body);
    let number = reader.int16().unwrap_or(0);
    (0..number).map_while(move |_| reader.value())
}

/// Whether any value of a result that the server describes so is in binary.
pub fn is_binary(description: &[u8]) -> bool {
    let mut reader = Body::new(description);
    let columns = reader.int16().unwrap_or(0);
    (0..columns).any(|_| {
        // Table, column, type, its length and its modifier.
        let format = reader.text().and_then(|_name| reader.skip(4 + 2 + 4 + 2 + 4)).and_then(|()| reader.int16());
        format != Some(0)
    })
}

/// Reads the body of a message.
pub struct Body<'b>(&'b [u8]);

impl<'b> Body<'b> {
    /// At its beginning.
    pub fn new(body: &'b [u8]) -> Self {
        Self(body)
    }

    /// Whether nothing is left of it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Text up to a zero.
    pub fn text(&mut self) -> Option<&'b [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(text)
    }

    /// Passes over so many bytes.
    pub fn skip(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.get(bytes..)?;
        Some(())
    }

    /// A count.
    pub fn int16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// A number.
    pub fn int32(&mut self) -> Option<i32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*number))
    }

    /// A length and so many bytes, none for NULL.
    pub fn value(&mut self) -> Option<Option<&'b [u8]>> {
        let Ok(length) = usize::try_from(self.int32()?) else { return Some(None) };
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Some(value))
    }
}

/// An error that ends a connection, as Postgres says it: SQLSTATE 08P01 (protocol violation) and the like.
pub fn fatal(code: &str, words: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', words)] {
        body.push(field);
        body.extend(text.bytes().filter(|byte| *byte != 0));
        body.push(0);
    }
    body.push(0);
    message(b'E', &body)
}

/// A simple query.
pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), &[0]].concat())
}

/// A message of type `tag`.
pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of `stream`, which comes `step` bytes at a time, and what was passed on.
    async fn read(
        sender: Sender,
        capacity: usize,
        stream: &[u8],
        step: usize,
    ) -> (Vec<String>, Vec<u8>, Option<String>) {
        let mut reader = Reader::new(sender, capacity);
        let (mut pieces, mut passed) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(step) {
            let mut chunk = chunk;
            while !chunk.is_empty() {
                assert!(reader.fill(&mut chunk).await.expect("bytes") > 0, "there is always room");
                let vetted = reader.vet();
                passed.extend_from_slice(reader.passable());
                reader.pass(reader.passable().len());
                while let Some(piece) = reader.next_piece() {
                    pieces.push(match piece {
                        Piece::Whole(tag, body) => format!("{} {}", char::from(tag), body.len()),
                        Piece::Rows(rows) => format!("{} rows", messages(rows).count()),
                        Piece::Part(tag, body, last) => format!("{} part {} {last}", char::from(tag), body.len()),
                    });
                }
                if let Err(why) = vetted {
                    return (pieces, passed, Some(why));
                }
            }
        }
        (pieces, passed, None)
    }

    #[tokio::test]
    async fn what_is_passed_on_is_what_came_however_it_is_cut() {
        let stream =
            [message(b'T', &[1; 9]), message(b'D', &[0; 6]), message(b'D', &[0; 3]), message(b'Z', b"I")].concat();
        for step in [1, 2, 3, 7, 100] {
            let (pieces, passed, bad) = read(Sender::Server, 64, &stream, step).await;
            assert_eq!((passed, bad), (stream.clone(), None), "{step} at a time");
            let rows: usize = pieces.iter().filter_map(|p| p.strip_suffix(" rows")?.parse::<usize>().ok()).sum();
            assert_eq!((rows, pieces.len() >= 3), (2, true), "{pieces:?}");
        }
        assert_eq!(read(Sender::Server, 64, &stream, 100).await.0, ["T 9", "2 rows", "Z 1"]);
    }

    #[tokio::test]
    async fn a_message_longer_than_what_is_kept_comes_in_parts() {
        let stream = [message(b'D', &[7; 100]), message(b'C', b"SELECT 1\0")].concat();
        let (pieces, passed, bad) = read(Sender::Server, 40, &stream, 1000).await;
        assert_eq!((passed, bad), (stream, None));
        assert_eq!(pieces, ["D part 35 false", "D part 40 false", "D part 25 true", "C 9"]);
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused_and_what_came_before_is_passed_on() {
        let good = message(b'Q', b"SELECT 1\0");
        for (bad, says) in [
            (&b"GET / HTTP/1.1\r\n"[..], "unknown type"),
            (&[b'Q', 0, 0, 0, 3, 0, 0, 0], "impossible length"),
            (&[b'Q', 0xff, 0xff, 0xff, 0xff, 0], "impossible length"),
        ] {
            let (pieces, passed, why) = read(Sender::Client, 64, &[&good, bad].concat(), 1).await;
            assert_eq!((pieces.len(), &passed), (1, &good));
            assert!(why.as_ref().is_some_and(|why| why.contains(says)), "{why:?}");
        }
    }

    #[test]
    fn values_end_where_they_make_no_sense() {
        let all = |body: &[u8]| fields(body).map(|field| field.map(<[u8]>::len)).collect::<Vec<_>>();
        assert_eq!(all(&[0, 3, 0, 0, 0, 1, b'a', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), [Some(1), None, Some(0)]);
        assert_eq!(all(&[0, 2, 0, 0, 0, 9, b'a']), []);
        assert_eq!(all(&[0]), []);
    }
}
