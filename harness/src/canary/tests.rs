//! Round trips of every kind under every encoding, and silence where nothing was planted.

use base64::Engine;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};

use super::*;

const KEY: [u8; 16] = *b"a key for tests.";
const WINDOW: TimeWindow =
    TimeWindow { start_unix_s: 1_760_000_000, seconds: 25_000_000, owners: 1000, rows_per_owner: 100 };

fn canaries() -> Vec<Canary> {
    let of = |owner, row, column| Canary { owner: Owner(owner), row, column };
    vec![of(0, 0, 0), of(1, 2, 3), of(999, 99, 1022), of(512, 31, 512)]
}

fn sightings(bytes: &[u8]) -> Vec<Sighting> {
    let mut all = Vec::new();
    Scanner::new(KEY, WINDOW).scan(bytes, &mut |sighting| all.push(sighting));
    all
}

#[track_caller]
fn check(bytes: &[u8], canary: Canary, form: Form, encoding: Encoding) {
    let all = sightings(bytes);
    let shown = String::from_utf8_lossy(bytes);
    let found = all.iter().find(|s| s.form == form && s.encoding == encoding && s.owner == canary.owner);
    let found = found.unwrap_or_else(|| panic!("no {form:?} of {:?} in {shown}: {all:?}", canary.owner));
    assert!(found.row == Some(canary.row), "row in {shown}: {found:?}");
    assert!(found.column.is_none_or(|column| column == canary.column), "column in {shown}: {found:?}");
}

#[test]
fn every_kind_names_its_owner_in_every_surrounding() {
    let mint = Mint::new(KEY, WINDOW);
    for canary in canaries() {
        let us = mint.timestamp_us(canary).expect("fits the window");
        let instant = crate::tenant::rfc3339(us);
        let plain = [
            (Form::Text, mint.text(canary)),
            (Form::Text, mint.email(canary)),
            (Form::Text, mint.json(canary).to_string()),
            (Form::Uuid, mint.uuid(canary).to_string()),
            (Form::Uuid, mint.uuid(canary).simple().to_string()),
            (Form::Bigint, mint.bigint(canary).to_string()),
            (Form::Inet, mint.inet(canary).to_string()),
            (Form::Inet, format!("{}/128", mint.inet(canary))),
            (Form::Time, instant.replace('T', " ").replace('Z', "+00")),
            (Form::Time, us.to_string()),
            (Form::Time, instant),
        ];
        for (form, value) in plain {
            for around in [("", ""), ("\"", "\""), (",", ","), ("<td>", "</td>"), ("x=", "&y"), ("\u{e9} ", "\n")] {
                check(format!("{}{value}{}", around.0, around.1).as_bytes(), canary, form, Encoding::Plain);
            }
            if form != Form::Time {
                check(value.to_uppercase().as_bytes(), canary, form, Encoding::Plain);
            }
        }
        check(&mint.bytes(canary), canary, Form::Text, Encoding::Plain);
    }
}

#[test]
fn text_and_uuids_are_found_under_every_encoding_at_every_alignment() {
    let mint = Mint::new(KEY, WINDOW);
    let engines = [base64::engine::general_purpose::STANDARD, base64::engine::general_purpose::URL_SAFE];
    for canary in canaries() {
        for (form, value) in [(Form::Text, mint.text(canary)), (Form::Uuid, mint.uuid(canary).to_string())] {
            for pad in ["", "a", "ab", "abc", "{\"id\":\""] {
                for engine in &engines {
                    let encoded = engine.encode(format!("{pad}{value}\"}}"));
                    check(format!("?cursor={encoded}").as_bytes(), canary, form, Encoding::Base64);
                }
                check(hex::encode(format!("{pad}{value}")).as_bytes(), canary, form, Encoding::Hex);
            }
            let percent: String = value.bytes().map(|b| format!("%{b:02X}")).collect();
            check(percent.as_bytes(), canary, form, Encoding::Percent);
            let json: String = value.bytes().map(|b| format!("\\u{b:04x}")).collect();
            check(json.as_bytes(), canary, form, Encoding::JsonEscape);
        }
    }
}

#[test]
fn a_cut_marker_names_its_owner_down_to_the_minimum_and_not_below() {
    let mint = Mint::new(KEY, WINDOW);
    let canary = canaries()[2];
    let text = mint.text(canary);
    for length in 0..text.len() {
        let found = sightings(&text.as_bytes()[..length]);
        match length {
            0..17 => assert!(found.is_empty(), "{length}: {found:?}"),
            _ => assert!(found[0].owner == canary.owner && found[0].row.is_none(), "{length}: {found:?}"),
        }
    }
}

#[test]
fn gzip_and_zstd_are_looked_through_also_when_they_break_off() {
    use std::io::Write;
    let canary = canaries()[1];
    let text = format!("{} {}", Mint::new(KEY, WINDOW).text(canary), "padding ".repeat(50_000));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).expect("to memory");
    let packed = gzip.finish().expect("to memory");
    check(&layers(&packed, None).0, canary, Form::Text, Encoding::Plain);
    check(&layers(&packed[..packed.len() - 9], Some("gzip")).0, canary, Form::Text, Encoding::Plain);
    let packed = zstd::encode_all(text.as_bytes(), 1).expect("to memory");
    check(&layers(&packed, None).0, canary, Form::Text, Encoding::Plain);
    let (body, broken) = layers(&packed[..packed.len() - 9], Some("zstd"));
    check(&body, canary, Form::Text, Encoding::Plain);
    assert_eq!(broken, Some("its zstd is broken"));
}

/// A zip of `members`, each a name and its bytes.
fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write;
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).expect("to memory");
        zip.write_all(bytes).expect("to memory");
    }
    zip.finish().expect("to memory").into_inner()
}

#[test]
fn the_members_of_a_zip_are_looked_through_also_when_it_breaks_off() {
    let canary = canaries()[1];
    let text = format!("{} {}", Mint::new(KEY, WINDOW).text(canary), "padding ".repeat(50_000));
    let zip = zipped(&[("a.csv", b"nothing"), ("b.csv", text.as_bytes()), ("c.csv", b"nothing")]);
    // Packed, none of it shows.
    assert_eq!(sightings(&zip), []);
    for whole in [zip.as_slice(), &zip[..zip.len() - 60]] {
        let (unfolded, why) = layers(whole, None);
        check(&unfolded, canary, Form::Text, Encoding::Plain);
        assert_eq!(why, None);
    }
    let named = zipped(&[(&Mint::new(KEY, WINDOW).text(canary), b"nothing")]);
    check(&layers(&named, None).0, canary, Form::Text, Encoding::Plain);
    let sound = zipped(&[("a.csv", "padding ".repeat(50_000).as_bytes())]);
    assert_eq!(sightings(&layers(&sound, None).0), []);
}

#[test]
fn a_zip_that_unfolds_without_end_is_left() {
    let zeros = vec![0; 40 << 20];
    let bomb = zipped(&[("a", &zeros), ("b", &zeros)]);
    let (unfolded, why) = layers(&bomb, None);
    assert!(unfolded.len() < 33 << 20, "{} bytes", unfolded.len());
    assert_eq!(why, Some("it unfolds to more than is read"));
    let nonsense = b"PK\x03\x04 nothing of the kind".as_slice();
    assert_eq!(layers(nonsense, None), (nonsense.into(), None));
}

#[test]
fn another_key_an_altered_check_and_colliding_values_are_no_sightings() {
    let mint = Mint::new(KEY, WINDOW);
    let other = Mint::new(*b"another key here", WINDOW);
    for canary in canaries() {
        let stranger = format!("{} {} {}", other.text(canary), other.uuid(canary), other.inet(canary));
        assert_eq!(sightings(stranger.as_bytes()), []);
        let mut id = mint.uuid(canary).to_string().into_bytes();
        id[35] = if id[35] == b'0' { b'1' } else { b'0' };
        assert_eq!(sightings(&id), []);
        assert_eq!(sightings(mint.collide(canary.row).as_bytes()), []);
    }
}

#[test]
fn natural_traffic_holds_no_sighting() {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut text = String::new();
    while text.len() < 20 << 20 {
        let id = uuid::Uuid::from_u128(rng.random());
        let at = crate::tenant::rfc3339(1_790_000_000_000_000 + rng.random_range(0..40_000_000_000_000));
        let (number, epoch) =
            (rng.random::<u64>(), 1_790_000_000_000_000_u64 + rng.random_range(0..40_000_000_000_000));
        text.push_str(&format!("{{\"id\":\"{id}\",\"at\":\"{at}\",\"n\":{number},\"us\":{epoch}}},"));
    }
    assert_eq!(sightings(text.as_bytes()), []);
}

proptest! {
    #[test]
    fn noise_never_panics_and_never_hides_a_canary(before in any::<Vec<u8>>(), after in any::<Vec<u8>>(), row in 0..100u32) {
        let canary = Canary { owner: Owner(7), row, column: 5 };
        let mint = Mint::new(KEY, WINDOW);
        for (form, value) in [(Form::Text, mint.text(canary)), (Form::Uuid, mint.uuid(canary).to_string())] {
            let mut bytes = before.clone();
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(&after);
            check(&bytes, canary, form, Encoding::Plain);
        }
    }
}
