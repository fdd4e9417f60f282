//! A copy of the target in which a transcript is taken, told apart by who else is there.

use serde::{Deserialize, Serialize};

/// One of four copies. In two of them the others are the same, in the other two they are others, and more of them: what
/// differs within a pair is the target's own noise, what differs between the pairs is due to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// Few others.
    Few,
    /// The same once more.
    FewAgain,
    /// Many others, and none of the few.
    Many,
    /// The same once more.
    ManyAgain,
}

impl World {
    /// All four, in the order in which they are observed.
    pub const ALL: [Self; 4] = [Self::Few, Self::FewAgain, Self::Many, Self::ManyAgain];
    /// Tenants that the four together need.
    pub const TENANTS: u32 = 6;

    /// Whose answers are compared.
    pub const OBSERVER: u32 = 0;

    /// The numbers of the tenants besides the observer.
    pub fn others(self) -> std::ops::Range<u32> {
        match self {
            Self::Few | Self::FewAgain => 1..2,
            Self::Many | Self::ManyAgain => 2..Self::TENANTS,
        }
    }
}
