//! The keyed codes that mint and scanner share.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::{Canary, Owner, TimeWindow};

/// Lower-case base32, as RFC 4648 orders it.
pub(super) const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Characters after the mark that name the owner and check it: the attributable minimum.
pub(super) const OWNER_CHARS: usize = 9;
/// Characters after the mark in a whole text canary.
pub(super) const TEXT_CHARS: usize = 20;
/// Digits of a bigint canary, the prefix included.
pub(super) const BIGINT_DIGITS: usize = 19;
pub(super) const BIGINT_BASE: u64 = 3_333_000_000_000_000_000;
const BIGINT_CHECKS: u64 = 28;
const BITS_45: u64 = (1 << 45) - 1;
const BITS_55: u64 = (1 << 55) - 1;

/// The key of a run, and what derives from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code {
    key: (u64, u64),
    pad: u64,
    pub(super) window: TimeWindow,
    multiplier: u64,
    inverse: u64,
    shift: u64,
}

impl Code {
    pub(super) fn new(key: [u8; 16], window: TimeWindow) -> Self {
        let half = |from: usize| u64::from_le_bytes(key[from..from + 8].try_into().unwrap_or_default());
        let mut code = Self { key: (half(0), half(8)), pad: 0, window, multiplier: 1, inverse: 1, shift: 0 };
        code.pad = code.check(0, 0) & BITS_55;
        let slots = window.seconds.max(2);
        let mut multiplier = code.check(1, 0) % slots;
        code.multiplier = loop {
            if let Some(inverse) = inverse(multiplier, slots) {
                code.inverse = inverse;
                break multiplier;
            }
            multiplier = (multiplier + 1) % slots;
        };
        code.shift = code.check(2, 0) % slots;
        code
    }

    /// A keyed check of `value` for one purpose.
    fn check(&self, purpose: u8, value: u64) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u64(value);
        hasher.write_u8(purpose);
        hasher.finish()
    }

    /// What tells this run from others.
    pub(super) fn run(&self) -> u64 {
        self.check(10, 0)
    }

    /// The 20 characters after the mark of a text canary.
    pub(super) fn text(&self, canary: Canary) -> [u8; TEXT_CHARS] {
        let mut out = [0; TEXT_CHARS];
        let owner = self.hidden_owner(canary.owner);
        put(&mut out[0..4], owner);
        put(&mut out[4..9], self.check(3, owner) & 0x1ff_ffff);
        let rest = u64::from(canary.row & 0x1ff_ffff) << 10 | u64::from(canary.column & 0x3ff);
        let rest = rest ^ (self.pad & ((1 << 35) - 1));
        put(&mut out[9..16], rest);
        put(&mut out[16..20], self.check(4, owner << 35 | rest) & 0xf_ffff);
        out
    }

    /// Decodes what follows the mark: a whole canary, or its owner where it is cut short or damaged later on.
    pub(super) fn of_text(&self, chars: &[u8]) -> Option<(Owner, Option<Canary>)> {
        let owner = take(chars.get(0..4)?)?;
        if take(chars.get(4..OWNER_CHARS)?)? != self.check(3, owner) & 0x1ff_ffff {
            return None;
        }
        let seen = self.shown_owner(owner);
        let whole = || {
            let rest = take(chars.get(9..16)?)?;
            let check = take(chars.get(16..20)?)?;
            if check != self.check(4, owner << 35 | rest) & 0xf_ffff {
                return None;
            }
            let rest = rest ^ (self.pad & ((1 << 35) - 1));
            Some(Canary { owner: seen, row: (rest >> 10) as u32, column: rest as u16 & 0x3ff })
        };
        Some((seen, whole()))
    }

    fn hidden_owner(&self, owner: Owner) -> u64 {
        u64::from(owner.0) ^ (self.pad >> 35)
    }

    fn shown_owner(&self, hidden: u64) -> Owner {
        Owner((hidden ^ (self.pad >> 35)) as u32 & 0xF_FFFF)
    }

    /// The 90 free bits of a UUID canary.
    pub(super) fn uuid(&self, canary: Canary) -> u128 {
        let payload = canary.payload() ^ self.pad;
        u128::from(payload) << 35 | u128::from(self.check(5, payload) & ((1 << 35) - 1))
    }

    pub(super) fn of_uuid(&self, bits: u128) -> Option<Canary> {
        let payload = (bits >> 35) as u64 & BITS_55;
        let check = bits as u64 & ((1 << 35) - 1);
        (check == self.check(5, payload) & ((1 << 35) - 1)).then(|| Canary::of_payload(payload ^ self.pad))
    }

    /// The 96 bits of an address canary after its prefix.
    pub(super) fn inet(&self, canary: Canary) -> u128 {
        let payload = canary.payload() ^ self.pad;
        u128::from(payload) << 41 | u128::from(self.check(6, payload) & ((1 << 41) - 1))
    }

    pub(super) fn of_inet(&self, bits: u128) -> Option<Canary> {
        let payload = (bits >> 41) as u64 & BITS_55;
        let check = bits as u64 & ((1 << 41) - 1);
        (check == self.check(6, payload) & ((1 << 41) - 1)).then(|| Canary::of_payload(payload ^ self.pad))
    }

    /// The first octet pair's low byte of every address canary.
    pub(super) fn inet_site(&self) -> u8 {
        self.check(7, 0) as u8
    }

    /// A number canary names owner and row, not the column.
    pub(super) fn bigint(&self, canary: Canary) -> u64 {
        let named = (u64::from(canary.owner.0) << 25 | u64::from(canary.row & 0x1ff_ffff)) ^ (self.pad & BITS_45);
        BIGINT_BASE + named * BIGINT_CHECKS + self.check(8, named) % BIGINT_CHECKS
    }

    pub(super) fn of_bigint(&self, number: u64) -> Option<(Owner, u32)> {
        let rest = number.checked_sub(BIGINT_BASE)?;
        let named = rest / BIGINT_CHECKS;
        if named > BITS_45 || rest % BIGINT_CHECKS != self.check(8, named) % BIGINT_CHECKS {
            return None;
        }
        let named = named ^ (self.pad & BITS_45);
        Some((Owner((named >> 25) as u32 & 0xF_FFFF), named as u32 & 0x1ff_ffff))
    }

    /// Microseconds since the Unix epoch; none when owner and row have no slot in the window.
    pub(super) fn instant(&self, canary: Canary) -> Option<i64> {
        let absent = canary.owner == Owner::ABSENT;
        let (owners, rows) = (u64::from(self.window.owners), u64::from(self.window.rows_per_owner));
        if !absent && (u64::from(canary.owner.0) >= owners || u64::from(canary.row) >= rows) {
            return None;
        }
        // Nobody's instants take the first slots that no tenant has.
        let index = if absent {
            owners * rows + u64::from(canary.row)
        } else {
            u64::from(canary.owner.0) * rows + u64::from(canary.row)
        };
        if index >= self.window.seconds {
            return None;
        }
        let slot = (u128::from(index) * u128::from(self.multiplier) + u128::from(self.shift))
            % u128::from(self.window.seconds);
        let second = self.window.start_unix_s + slot as i64;
        Some(second * 1_000_000 + 333_300 + (self.check(9, second as u64) % 100) as i64)
    }

    pub(super) fn of_instant(&self, us: i64) -> Option<(Owner, u32)> {
        let (second, sub) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
        let slot = u64::try_from(second - self.window.start_unix_s).ok().filter(|s| *s < self.window.seconds)?;
        if sub != 333_300 + (self.check(9, second as u64) % 100) as i64 {
            return None;
        }
        let slots = u128::from(self.window.seconds);
        let moved = (u128::from(slot) + slots - u128::from(self.shift)) % slots;
        let index = (moved * u128::from(self.inverse) % slots) as u64;
        let rows = u64::from(self.window.rows_per_owner);
        (index < u64::from(self.window.owners) * rows).then(|| (Owner((index / rows) as u32), (index % rows) as u32))
    }
}

fn put(out: &mut [u8], mut value: u64) {
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
}

fn take(chars: &[u8]) -> Option<u64> {
    chars.iter().try_fold(0, |value, byte| {
        let digit = match byte {
            b'a'..=b'z' => byte - b'a',
            b'A'..=b'Z' => byte - b'A',
            b'2'..=b'7' => byte - b'2' + 26,
            _ => return None,
        };
        Some(value << 5 | u64::from(digit))
    })
}

/// The inverse of `a` modulo `m`, where there is one.
fn inverse(a: u64, m: u64) -> Option<u64> {
    let (mut old, mut new) = ((i128::from(a), 1i128), (i128::from(m), 0i128));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    (old.0 == 1).then(|| old.1.rem_euclid(i128::from(m)) as u64)
}
