//! The one place where randomness is made. Everything a run draws derives from its seed; secrets do not, so that
//! printing the seed gives nothing away.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// The number a plan derives from. It reproduces the plan, never the interleaving against a live Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// A fresh seed from the operating system, short enough to type.
    pub fn fresh() -> Self {
        Self(rand::rng().random_range(1..1 << 32))
    }

    /// An independent stream for `domain` and `index`: asking for case 7 never needs cases 0 to 6.
    pub fn stream(self, domain: &str, index: u64) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.bytes(domain, index))
    }

    /// The key of the canaries of a run; `salt` tells runs of the same seed apart.
    pub fn canary_key(self, salt: u64) -> [u8; 16] {
        let mut key = [0; 16];
        key.copy_from_slice(&self.bytes("canary", salt)[..16]);
        key
    }

    /// 32 bytes that depend on the seed, the domain and the index; also what proptest's runner is seeded with.
    pub fn bytes(self, domain: &str, index: u64) -> [u8; 32] {
        use sha2::Digest;
        let mut hash = sha2::Sha256::new();
        hash.update(self.0.to_le_bytes());
        hash.update(index.to_le_bytes());
        hash.update(domain.as_bytes());
        hash.finalize().into()
    }
}

/// A secret of `bytes` random bytes as hex: from the operating system, never from the seed.
pub fn secret(bytes: usize) -> String {
    let mut raw = vec![0; bytes];
    rand::rng().fill_bytes(&mut raw);
    hex::encode(raw)
}

/// The operating system's randomness, as the crates want it that make keys.
pub fn of_keys() -> rsa::rand_core::OsRng {
    rsa::rand_core::OsRng
}

/// A run's name: sortable by time, unique enough for a folder.
pub fn run_id(now: time::OffsetDateTime) -> String {
    let format = time::macros::format_description!("[year][month][day]-[hour][minute][second]");
    let stamp = now.format(format).unwrap_or_else(|_| "run".into());
    format!("{stamp}-{:04x}", rand::rng().random::<u16>())
}
