//! Planted values that name their one owner. Every kind holds the digits `3333`, so that one search finds them all,
//! in any case, among any number of tenants; a keyed check tells them from chance. One digit repeated looks the same at
//! every alignment of base64, and its hexadecimal form holds itself: few searches find all encodings.

mod code;
mod layers;
mod mint;
mod scan;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use layers::layers;
pub use mint::Mint;
pub use scan::Scanner;

/// The digits that every kind of canary holds.
const PREFIX: &[u8] = b"3333";
/// What text and UUID canaries begin with.
const MARK: &[u8] = b"33333333";

/// Whose a canary is: the index of a planted tenant, 20 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Owner(u32);

impl Owner {
    /// The platform's operator: no tenant.
    pub const PLATFORM: Self = Self(0xF_FFFF);
    /// Nobody: ids that do not exist.
    pub const ABSENT: Self = Self(0xF_FFFE);

    /// The tenant of that index; indexes beyond 20 bits do not fit into a canary.
    pub const fn new(index: u32) -> Self {
        debug_assert!(index < 0xF_FFFE);
        Self(index & 0xF_FFFF)
    }

    /// The index.
    pub fn index(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PLATFORM => f.write_str("the platform"),
            Self::ABSENT => f.write_str("nobody"),
            Self(index) => write!(f, "tenant {index}"),
        }
    }
}

/// What a planted value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Canary {
    /// Whose it is.
    pub owner: Owner,
    /// Which of the owner's rows, 25 bits.
    pub row: u32,
    /// Code of the column, 10 bits.
    pub column: u16,
}

impl Canary {
    /// Owner, row and column in 55 bits.
    fn payload(self) -> u64 {
        u64::from(self.owner.0) << 35 | u64::from(self.row & 0x1ff_ffff) << 10 | u64::from(self.column & 0x3ff)
    }

    fn of_payload(payload: u64) -> Self {
        Self {
            owner: Owner((payload >> 35) as u32 & 0xF_FFFF),
            row: (payload >> 10) as u32 & 0x1ff_ffff,
            column: payload as u16 & 0x3ff,
        }
    }
}

/// The period in which planted instants lie. It ends before planting, so that no instant of the service's own making
/// lies in it.
#[derive(Clone, Copy, Debug)]
pub struct TimeWindow {
    /// First second, since the Unix epoch.
    pub start_unix_s: i64,
    /// Length, seconds.
    pub seconds: u64,
    /// Tenants planted.
    pub owners: u32,
    /// Rows with an instant, a tenant at most.
    pub rows_per_owner: u32,
}

/// A canary seen somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sighting {
    /// Whose.
    pub owner: Owner,
    /// Which row; unknown where the value was cut short.
    pub row: Option<u32>,
    /// Which column; unknown where the value was cut short, and for instants.
    pub column: Option<u16>,
    /// In which form.
    pub form: Form,
    /// Under which encoding.
    pub encoding: Encoding,
    /// At which byte.
    pub offset: usize,
    /// In which part of an answer.
    #[serde(default)]
    pub post: Post,
}

/// Where somebody listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Post {
    /// The body.
    #[default]
    Body,
    /// A header, cookies and redirects among them.
    Header,
}

/// The form of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A marker in text, e-mail, JSON or bytes.
    Text,
    /// A UUID.
    Uuid,
    /// A number.
    Bigint,
    /// An IPv6 address.
    Inet,
    /// An instant.
    Time,
    /// A value that the service made, learnt as its owner's.
    Learnt,
}

/// How a canary was encoded where it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// As it is, in any case.
    Plain,
    /// Base64, standard or URL-safe.
    Base64,
    /// Hexadecimal.
    Hex,
    /// Percent-encoded throughout.
    Percent,
    /// Escaped as JSON `\u00xx` throughout.
    JsonEscape,
}

#[cfg(test)]
mod tests;
