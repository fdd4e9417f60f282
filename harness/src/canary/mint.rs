//! Makes canaries of every column type.

use std::net::Ipv6Addr;

use serde_json::{Value, json};
use uuid::Uuid;

use super::code::Code;
use super::{Canary, MARK, TimeWindow};

/// Makes the canaries of one run.
#[derive(Clone, Debug)]
pub struct Mint {
    code: Code,
}

impl Mint {
    /// A mint with the run's key.
    pub fn new(key: [u8; 16], window: TimeWindow) -> Self {
        Self { code: Code::new(key, window) }
    }

    /// Text: 28 characters of digits and lower-case base32.
    pub fn text(&self, canary: Canary) -> String {
        let mut text = String::with_capacity(28);
        text.extend(MARK.iter().chain(&self.code.text(canary)).map(|byte| char::from(*byte)));
        text
    }

    /// A version 8 UUID.
    pub fn uuid(&self, canary: Canary) -> Uuid {
        // 32 fixed bits, 16 free, version, 12 free, variant, 62 free.
        let bits = self.code.uuid(canary);
        let high = 0x3333_3333_u128 << 96;
        let first = (bits >> 74) << 80;
        let second = (bits >> 62 & 0xfff) << 64;
        let last = bits & ((1 << 62) - 1);
        Uuid::from_u128(high | first | 8 << 76 | second | 0b10 << 62 | last)
    }

    /// A number of 19 digits; it names owner and row, not the column.
    pub fn bigint(&self, canary: Canary) -> i64 {
        self.code.bigint(canary) as i64
    }

    /// A unique local IPv6 address.
    pub fn inet(&self, canary: Canary) -> Ipv6Addr {
        let head = u128::from(0xfd00 | u16::from(self.code.inet_site())) << 112 | 0x3333_u128 << 96;
        Ipv6Addr::from_bits(head | self.code.inet(canary))
    }

    /// An e-mail address.
    pub fn email(&self, canary: Canary) -> String {
        format!("{}@canary.example", self.text(canary))
    }

    /// What a written canary may look like in a request or an answer: text, UUID, address. An e-mail address and a document
    /// hold the text.
    pub fn forms(&self, canary: Canary) -> [String; 3] {
        [self.text(canary), self.uuid(canary).to_string(), self.inet(canary).to_string()]
    }

    /// A document with the marker in a key and in values at two depths.
    pub fn json(&self, canary: Canary) -> Value {
        let text = self.text(canary);
        json!({ text.clone(): text.clone(), "nested": { "list": [text] } })
    }

    /// Bytes with the marker between bytes that are not text.
    pub fn bytes(&self, canary: Canary) -> Vec<u8> {
        [&[0, 0xff], self.text(canary).as_bytes(), &[0xfe, 0]].concat()
    }

    /// Microseconds since the Unix epoch; none when owner and row do not fit the window. It names no column.
    pub fn timestamp_us(&self, canary: Canary) -> Option<i64> {
        self.code.instant(canary)
    }

    /// Deliberately the same for every owner, and therefore never a sighting; not the same in the next run.
    pub fn collide(&self, row: u32) -> String {
        format!("shared-{:05x}-{row:05}", self.code.run() & 0xf_ffff)
    }
}
