use super::*;

#[test]
fn a_url_is_led_through_and_its_place_is_known() {
    let address: SocketAddr = "127.0.0.1:7000".parse().expect("an address");
    for (url, led, place) in [
        ("postgres://a:b@h:1/d?x=y", "postgres://a:b@127.0.0.1:7000/d?x=y", Some(("h", 1))),
        ("postgres://a:p%40@h/d", "postgres://a:p%40@127.0.0.1:7000/d", Some(("h", 5432))),
        ("postgres://h:7", "postgres://127.0.0.1:7000", Some(("h", 7))),
        (
            "postgres://a@h:1/d?sslmode=verify-full&x=y",
            "postgres://a@127.0.0.1:7000/d?x=y&sslmode=disable",
            Some(("h", 1)),
        ),
    ] {
        assert_eq!(through(url, address, false).as_deref(), Some(led));
        assert_eq!(Upstream::of_url(url), place.map(|(host, port)| Upstream::Tcp(host.into(), port)));
    }
    let encrypted = through("postgres://h/d?sslmode=verify-ca", address, true);
    assert_eq!(encrypted.as_deref(), Some("postgres://127.0.0.1:7000/d?sslmode=require"));
    assert!("nowhere".parse::<Upstream>().is_err());
    assert_eq!("/run/pg/.s.PGSQL.1".parse::<Upstream>().ok(), Some(Upstream::Unix("/run/pg/.s.PGSQL.1".into())));
}

#[test]
fn a_number_in_an_array_a_row_or_a_numeric_names_its_owner_in_binary() {
    use crate::canary::{Canary, Mint, Owner, Scanner, TimeWindow};
    let window = TimeWindow { start_unix_s: 1_750_000_000, seconds: 86_400, owners: 4, rows_per_owner: 4 };
    let (mint, lens) = (Mint::new([3; 16], window), Lens::new(Scanner::new([3; 16], window), Binding::default()));
    let number = mint.bigint(Canary { owner: Owner::new(2), row: 1, column: 1 });
    let ints = |all: &[i32]| all.iter().flat_map(|int| int.to_be_bytes()).collect::<Vec<u8>>();
    let array = [ints(&[1, 0, 20, 2, 1, 8, 0, 7, 8]), number.to_be_bytes().into()].concat();
    let row = [ints(&[2, 25, -1, 20, 8]), number.to_be_bytes().into()].concat();
    let mut digits: Vec<u16> = Vec::new();
    let mut rest = number;
    while rest > 0 {
        digits.insert(0, (rest % 10_000) as u16);
        rest /= 10_000;
    }
    let head = [digits.len() as u16, digits.len() as u16 - 1, 0, 0];
    let numeric: Vec<u8> = head.iter().chain(&digits).flat_map(|word| word.to_be_bytes()).collect();
    for (what, value) in [("bigint", number.to_be_bytes().into()), ("array", array), ("row", row), ("numeric", numeric)]
    {
        let mut seen = Vec::new();
        lens.scan_value(&value, &mut |sighting| seen.push(sighting.owner.index()));
        assert_eq!(seen, [2], "{what}");
    }
}
