use super::*;

#[test]
fn a_url_is_led_through_and_its_place_is_known() {
    let address: SocketAddr = "127.0.0.1:7000".parse().expect("an address");
    for (url, led, place) in [
        ("postgres://a:b@h:1/d?x=y", "postgres://a:b@127.0.0.1:7000/d?x=y", Some(("h", 1))),
        ("postgres://a:p%40@h/d", "postgres://a:p%40@127.0.0.1:7000/d", Some(("h", 5432))),
        ("postgres://h:7", "postgres://127.0.0.1:7000", Some(("h", 7))),
        ("postgres://a@h:1/d?sslmode=require", "postgres://a@127.0.0.1:7000/d?sslmode=require", None),
    ] {
        assert_eq!(through(url, address).as_deref(), Some(led));
        assert_eq!(Upstream::of_url(url), place.map(|(host, port)| Upstream::Tcp(host.into(), port)));
    }
    assert!("nowhere".parse::<Upstream>().is_err());
    assert_eq!("/run/pg/.s.PGSQL.1".parse::<Upstream>().ok(), Some(Upstream::Unix("/run/pg/.s.PGSQL.1".into())));
}
