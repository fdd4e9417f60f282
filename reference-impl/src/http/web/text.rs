//! Values as a person reads them. Templates hand over references, code hands over values.

use std::borrow::Borrow;

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};

/// The time of a day, UTC.
pub(super) fn clock(at: impl Borrow<OffsetDateTime>) -> String {
    let (h, m, s) = at.borrow().to_hms();
    format!("{h:02}:{m:02}:{s:02}")
}

/// An instant to the minute, as a form's field holds it.
pub(super) fn minute(at: OffsetDateTime) -> String {
    format!("{}T{:02}:{:02}", at.date(), at.hour(), at.minute())
}

/// An instant as the API writes it.
pub(super) fn rfc3339(at: impl Borrow<OffsetDateTime>) -> String {
    at.borrow().format(&Rfc3339).unwrap_or_default()
}

/// A day with its weekday.
pub(super) fn spoken(day: Date) -> String {
    format!("{}, {} {} {}", day.weekday(), day.day(), day.month(), day.year())
}

/// An instant with its day, UTC.
pub(super) fn stamp(at: impl Borrow<OffsetDateTime>) -> String {
    let at = at.borrow();
    format!("{} {}", at.date(), clock(at))
}

/// A count with its digits in threes.
pub(super) fn grouped(count: impl Borrow<i64>) -> String {
    let digits = count.borrow().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}
