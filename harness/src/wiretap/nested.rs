//! Values within a value in binary: of an array, a composite, a range. Each has a length of its own before it.

use super::frame::Body;

/// An array has no more dimensions (`MAXDIM`), a row no more columns (`MaxTupleAttributeNumber`).
const DIMENSIONS_MAX: i32 = 6;
const COLUMNS_MAX: i32 = 1_664;
/// Arrays of composites of arrays: deeper nobody looks.
const DEPTH_MAX: u8 = 4;
/// Flags of a range: empty, and that a bound is missing.
const EMPTY: u8 = 0x01;
const ENDLESS: [u8; 2] = [0x08, 0x10];

/// Reports each value within `value`, if it holds any; nothing where it does not make sense to its last byte.
pub fn values<'v>(value: &'v [u8], report: &mut dyn FnMut(&'v [u8])) {
    within(value, 0, report);
}

fn within<'v>(value: &'v [u8], depth: u8, report: &mut dyn FnMut(&'v [u8])) {
    let found = array(value).or_else(|| composite(value)).or_else(|| range(value));
    for part in found.filter(|_| depth < DEPTH_MAX).into_iter().flatten() {
        report(part);
        within(part, depth + 1, report);
    }
}

/// Dimensions, whether there are NULLs, the type; length and begin of each dimension; the values.
fn array(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = Body::new(value);
    let dimensions = rest.int32().filter(|number| (1..=DIMENSIONS_MAX).contains(number))?;
    rest.int32().filter(|nulls| (0..=1).contains(nulls))?;
    rest.int32()?;
    let mut number = 1usize;
    for _ in 0..dimensions {
        number = number.checked_mul(usize::try_from(rest.int32()?).ok()?)?;
        rest.int32()?;
    }
    // Each has a length at least.
    let parts =
        (number <= value.len() / 4).then(|| (0..number).map(|_| rest.value()).collect::<Option<Vec<_>>>())??;
    rest.is_empty().then(|| parts.into_iter().flatten().collect())
}

/// How many; type and value of each.
fn composite(value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = Body::new(value);
    let number = rest.int32().filter(|number| (1..=COLUMNS_MAX).contains(number))?;
    let part = |_| {
        rest.int32()?;
        rest.value()
    };
    let parts = (0..number).map(part).collect::<Option<Vec<_>>>()?;
    rest.is_empty().then(|| parts.into_iter().flatten().collect())
}

/// Flags, and the bounds that there are.
fn range(value: &[u8]) -> Option<Vec<&[u8]>> {
    let (flags, bounds) = value.split_first().filter(|(flags, _)| **flags & EMPTY == 0 && **flags < 0x20)?;
    let mut rest = Body::new(bounds);
    let there = ENDLESS.iter().filter(|endless| flags & **endless == 0);
    let parts = there.map(|_| rest.value()).collect::<Option<Vec<_>>>()?;
    (rest.is_empty() && !parts.is_empty()).then(|| parts.into_iter().flatten().collect())
}

/// The whole number that a value of type `numeric` is in binary; none where it is none, or too long for a bigint.
pub fn numeric(value: &[u8]) -> Option<i64> {
    let mut rest = Body::new(value);
    let (digits, weight, sign) = (rest.int16()?, rest.int16()?, rest.int16()?);
    rest.int16()?;
    if value.len() != 8 + 2 * usize::from(digits) || sign != 0 || weight > 4 || digits > weight + 1 {
        return None;
    }
    let mut number = 0i64;
    for place in 0..=weight {
        let digit = if place < digits { rest.int16().filter(|digit| *digit < 10_000)? } else { 0 };
        number = number.checked_mul(10_000)?.checked_add(digit.into())?;
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valued(value: &[u8]) -> Vec<u8> {
        [&(value.len() as u32).to_be_bytes()[..], value].concat()
    }

    fn ints(all: &[i32]) -> Vec<u8> {
        all.iter().flat_map(|int| int.to_be_bytes()).collect()
    }

    fn found(value: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        values(value, &mut |part| found.push(part.to_vec()));
        found
    }

    #[test]
    fn values_are_found_in_arrays_composites_and_ranges_and_in_what_these_hold() {
        let array = [ints(&[1, 1, 20, 3, 1]), valued(b"one"), ints(&[-1]), valued(b"two")].concat();
        let composite = [ints(&[2, 20]), valued(b"seven"), ints(&[1016]), valued(&array)].concat();
        let range = [vec![0x02], valued(b"low"), valued(b"high")].concat();
        let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(found(&array), words(&["one", "two"]));
        assert_eq!(found(&composite), [words(&["seven"]), vec![array.clone()], words(&["one", "two"])].concat());
        assert_eq!(found(&range), words(&["low", "high"]));
        assert_eq!(found(&[vec![0x12], valued(b"low")].concat()), words(&["low"]), "without an end");
        for torn in [&array[..array.len() - 1], &[&array[..], b"x"].concat(), b"", b"plain text", &[0; 40]] {
            assert_eq!(found(torn), Vec::<Vec<u8>>::new(), "{torn:?}");
        }
        assert_eq!(found(&ints(&[6, 0, 20, i32::MAX, 1, i32::MAX, 1, 1, 1, 1, 1, 1, 1, 1, 1])).len(), 0);
    }

    #[test]
    fn whole_numbers_are_read_however_many_digits_they_have() {
        let numeric = |weight: u16, digits: &[u16]| {
            let head = [digits.len() as u16, weight, 0, 0];
            super::numeric(&head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>())
        };
        assert_eq!(numeric(0, &[42]), Some(42));
        assert_eq!(numeric(4, &[922, 3372, 368, 5477, 5807]), Some(9_223_372_036_854_775_807));
        assert_eq!(numeric(1, &[7]), Some(70_000), "zeros at the end are left out");
        for (weight, digits) in [(4, &[9999, 9999, 9999, 9999, 9999][..]), (0, &[1, 5]), (5, &[1]), (0, &[10_000])] {
            assert_eq!(numeric(weight, digits), None, "{digits:?}");
        }
    }
}
