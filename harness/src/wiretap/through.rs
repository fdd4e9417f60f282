//! URLs of a database, as they are led through what stands before it.

use std::net::SocketAddr;

/// What only concerns who encrypts, and for whom: it is between others now.
const ENCRYPTION: [&str; 9] = [
    "sslmode",
    "ssl",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslnegotiation",
    "ssl_min_protocol_version",
    "gssencmode",
    "channel_binding",
];

/// `url` with another address in it, and `encrypted` or not where it said how it is.
pub fn through(url: &str, address: SocketAddr, encrypted: bool) -> Option<String> {
    let start = url.find("://")? + 3;
    let end = url[start..].find(['/', '?']).map_or(url.len(), |at| start + at);
    let user = url[start..end].rfind('@').map_or(start, |at| start + at + 1);
    let (path, query) = url[end..].split_once('?').unwrap_or((&url[end..], ""));
    let said = |word: &&str| ENCRYPTION.contains(&word.split('=').next().unwrap_or_default());
    let mut words: Vec<&str> = query.split('&').filter(|word| !word.is_empty() && !said(word)).collect();
    let mode = if encrypted { "sslmode=require" } else { "sslmode=disable" };
    words.extend(query.split('&').any(|word| said(&word)).then_some(mode));
    let query = if words.is_empty() { String::new() } else { format!("?{}", words.join("&")) };
    Some(format!("{}{address}{path}{query}", &url[..user]))
}

/// A parameter of a URL, decoded; the last one of that name.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let value = query.split('&').filter_map(|word| word.split_once('=')).rfind(|(known, _)| *known == name)?.1;
    percent_encoding::percent_decode_str(value).decode_utf8().ok().map(Into::into)
}
