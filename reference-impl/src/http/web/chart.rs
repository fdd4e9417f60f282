//! The events of each day as bars; each leads to its day.

use time::format_description::well_known::Iso8601;
use time::{Date, Duration};

use super::text::{minute, spoken};
use super::wanted::Wanted;
use crate::http::stats::Day;

/// Bars at most.
const BARS_MAX: i64 = 92;
/// The tallest bar.
const HEIGHT: i64 = 48;

/// Bars, one a day.
pub(super) struct Chart {
    /// The bars, the earliest first.
    pub bars: Vec<Bar>,
    /// Units across.
    pub width: i64,
    /// Events of the tallest.
    pub most: i64,
    /// Its first and last day.
    pub first: String,
    pub last: String,
}

/// One day's bar.
pub(super) struct Bar {
    pub x: i64,
    pub y: i64,
    pub height: i64,
    pub title: String,
    pub address: String,
}

impl Chart {
    /// Of the days from `from` to `to`; none when no day has events, or there is nothing to compare.
    pub fn of(days: &[Day], from: Date, to: Date, wanted: &Wanted) -> Option<Self> {
        let counted: Vec<(Date, i64)> =
            days.iter().filter_map(|day| Some((Date::parse(&day.day, &Iso8601::DATE).ok()?, day.events))).collect();
        let most = counted.iter().map(|(_, events)| *events).max()?;
        let (first, last) = (from.max(to - Duration::days(BARS_MAX - 1)), to);
        let span = (last - first).whole_days() + 1;
        if span < 3 {
            return None;
        }
        let bars = (0..span).map(|index| {
            let day = first + Duration::days(index);
            let events = counted.iter().find(|(counted, _)| *counted == day).map_or(0, |(_, events)| *events);
            let height = if events == 0 { 0 } else { (events * HEIGHT / most).max(2) };
            let address = wanted.with(|other| {
                let midnight = |day: Date| minute(day.midnight().assume_utc());
                (other.from, other.to) = (midnight(day), midnight(day + Duration::days(1)));
            });
            Bar { x: index * 10, y: HEIGHT - height, height, title: format!("{}: {events}", spoken(day)), address }
        });
        Some(Self {
            bars: bars.collect(),
            width: span * 10 - 2,
            most,
            first: first.to_string(),
            last: last.to_string(),
        })
    }
}
